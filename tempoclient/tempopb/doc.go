// Package tempopb holds the messages of Tempo's API that BeTrace calls. They are
// generated from tempo.proto here, not imported from Tempo, whose package of that
// name links code under the AGPL: see docs/adr/0002.
package tempopb

//go:generate sh -c "cd ../../tools/protogen && go run . -out ../../tempoclient/tempopb ../../tempoclient/tempopb/tempo.proto"
