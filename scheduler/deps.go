// Package scheduler is the service.
package scheduler

import (
	_ "github.com/grafana/dskit/modules"
	_ "github.com/grafana/dskit/services"
	_ "github.com/pressly/goose/v3"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/robfig/cron/v3"
	_ "github.com/secure-systems-lab/go-securesystemslib/dsse"
	_ "golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite"
)
