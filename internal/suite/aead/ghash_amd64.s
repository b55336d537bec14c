#include "textflag.h"

DATA reverse<>+0x00(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+0x08(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

// x^127 + x^126 + x^121 without its low half: what folding multiplies by.
DATA fold<>+0x00(SB)/8, $0xc200000000000000
DATA fold<>+0x08(SB)/8, $0x0000000000000000
GLOBL fold<>(SB), RODATA|NOPTR, $16

// func ghashBlocks(powers *[8][16]byte, y *[16]byte, blocks *byte, n int)
//
// The products of all blocks are summed at full length, low half in X0, high
// half in X1, what lies across in X2, and reduced once.
TEXT ·ghashBlocks(SB), NOSPLIT, $0-32
	MOVQ  powers+0(FP), AX
	MOVQ  y+8(FP), BX
	MOVQ  blocks+16(FP), CX
	MOVQ  n+24(FP), DX
	MOVOU reverse<>(SB), X8
	MOVOU fold<>(SB), X9
	PXOR  X0, X0
	PXOR  X1, X1
	PXOR  X2, X2

	// The first block, to which y is added, takes the highest power.
	MOVQ  DX, SI
	SHLQ  $4, SI
	LEAQ  -16(AX)(SI*1), AX
	MOVOU (BX), X3

next:
	MOVOU     (CX), X4
	PSHUFB    X8, X4
	PXOR      X3, X4
	PXOR      X3, X3
	MOVOU     (AX), X5
	MOVOU     X5, X6
	MOVOU     X5, X7
	MOVOU     X5, X10
	PCLMULQDQ $0x00, X4, X6
	PCLMULQDQ $0x11, X4, X7
	PCLMULQDQ $0x10, X4, X10
	PCLMULQDQ $0x01, X4, X5
	PXOR      X6, X0
	PXOR      X7, X1
	PXOR      X10, X2
	PXOR      X5, X2
	ADDQ      $16, CX
	SUBQ      $16, AX
	DECQ      DX
	JNZ       next

	MOVOU  X2, X6
	PSLLDQ $8, X6
	PSRLDQ $8, X2
	PXOR   X6, X0
	PXOR   X2, X1

	// Fold the low half up, 64 bits at a time.
	MOVOU     X9, X6
	PCLMULQDQ $0x00, X0, X6
	PSHUFD    $78, X0, X0
	PXOR      X6, X0
	MOVOU     X9, X6
	PCLMULQDQ $0x00, X0, X6
	PSHUFD    $78, X0, X0
	PXOR      X6, X0
	PXOR      X0, X1
	MOVOU     X1, (BX)
	RET
