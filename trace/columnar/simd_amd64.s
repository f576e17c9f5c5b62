#include "textflag.h"

// func equalWordsAVX2(b *uint64, values *uint32, words int, want uint32)
//
// Eight values are compared at a time, 64 per word, and the results are narrowed from 32 to 16 to 8 bits.
// Narrowing works on the two halves of a register separately, which leaves groups of four values in the order
// 0 8 16 24, 4 12 20 28. They are put in order before their signs are extracted.
TEXT ·equalWordsAVX2(SB), NOSPLIT, $0-28
	MOVQ b+0(FP), DI
	MOVQ values+8(FP), SI
	MOVQ words+16(FP), CX
	MOVL want+24(FP), AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VMOVDQU order<>(SB), Y1

next:
	VPCMPEQD (SI), Y0, Y2
	VPCMPEQD 32(SI), Y0, Y3
	VPCMPEQD 64(SI), Y0, Y4
	VPCMPEQD 96(SI), Y0, Y5
	VPCMPEQD 128(SI), Y0, Y6
	VPCMPEQD 160(SI), Y0, Y7
	VPCMPEQD 192(SI), Y0, Y8
	VPCMPEQD 224(SI), Y0, Y9
	VPACKSSDW Y3, Y2, Y2
	VPACKSSDW Y5, Y4, Y4
	VPACKSSDW Y7, Y6, Y6
	VPACKSSDW Y9, Y8, Y8
	VPACKSSWB Y4, Y2, Y2
	VPACKSSWB Y8, Y6, Y6
	VPERMD Y2, Y1, Y2
	VPERMD Y6, Y1, Y6
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y6, DX
	SHLQ $32, DX
	ORQ DX, AX
	MOVQ AX, (DI)
	ADDQ $256, SI
	ADDQ $8, DI
	DECQ CX
	JNZ next
	VZEROUPPER
	RET

DATA order<>+0(SB)/4, $0
DATA order<>+4(SB)/4, $4
DATA order<>+8(SB)/4, $1
DATA order<>+12(SB)/4, $5
DATA order<>+16(SB)/4, $2
DATA order<>+20(SB)/4, $6
DATA order<>+24(SB)/4, $3
DATA order<>+28(SB)/4, $7
GLOBL order<>(SB), RODATA|NOPTR, $32

// SIGNS shifts the signs of the 16 numbers in Y2 to Y5 into AX from above. After four times, those of the
// first 16 numbers are the lowest bits.
#define SIGNS \
	VMOVMSKPD Y2, R8; \
	VMOVMSKPD Y3, R9; \
	VMOVMSKPD Y4, R10; \
	VMOVMSKPD Y5, R11; \
	SHLQ $4, R9; \
	SHLQ $8, R10; \
	SHLQ $12, R11; \
	ORQ R9, R8; \
	ORQ R11, R10; \
	ORQ R8, AX; \
	ORQ R10, AX; \
	RORQ $16, AX

// func intsWithinAVX2(values *int64, low, high int64) uint64
TEXT ·intsWithinAVX2(SB), NOSPLIT, $0-32
	MOVQ values+0(FP), SI
	VPBROADCASTQ low+8(FP), Y0
	VPBROADCASTQ high+16(FP), Y1
	XORQ AX, AX
	MOVQ $4, CX

ints:
	VMOVDQU (SI), Y2
	VMOVDQU 32(SI), Y3
	VMOVDQU 64(SI), Y4
	VMOVDQU 96(SI), Y5
	VPCMPGTQ Y2, Y0, Y6
	VPCMPGTQ Y3, Y0, Y7
	VPCMPGTQ Y4, Y0, Y8
	VPCMPGTQ Y5, Y0, Y9
	VPCMPGTQ Y1, Y2, Y2
	VPCMPGTQ Y1, Y3, Y3
	VPCMPGTQ Y1, Y4, Y4
	VPCMPGTQ Y1, Y5, Y5
	VPOR Y6, Y2, Y2
	VPOR Y7, Y3, Y3
	VPOR Y8, Y4, Y4
	VPOR Y9, Y5, Y5
	SIGNS
	ADDQ $128, SI
	DECQ CX
	JNZ ints
	NOTQ AX // the comparisons found the values outside
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET

// func doublesWithinAVX2(values *float64, least, greatest float64) uint64
TEXT ·doublesWithinAVX2(SB), NOSPLIT, $0-32
	MOVQ values+0(FP), SI
	VBROADCASTSD least+8(FP), Y0
	VBROADCASTSD greatest+16(FP), Y1
	XORQ AX, AX
	MOVQ $4, CX

doubles:
	// Predicate 2 is less or equal, 13 greater or equal; both are false for NaN.
	VCMPPD $2, (SI), Y0, Y2
	VCMPPD $2, 32(SI), Y0, Y3
	VCMPPD $2, 64(SI), Y0, Y4
	VCMPPD $2, 96(SI), Y0, Y5
	VCMPPD $13, (SI), Y1, Y6
	VCMPPD $13, 32(SI), Y1, Y7
	VCMPPD $13, 64(SI), Y1, Y8
	VCMPPD $13, 96(SI), Y1, Y9
	VANDPD Y6, Y2, Y2
	VANDPD Y7, Y3, Y3
	VANDPD Y8, Y4, Y4
	VANDPD Y9, Y5, Y5
	SIGNS
	ADDQ $128, SI
	DECQ CX
	JNZ doubles
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET
