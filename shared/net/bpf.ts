/** Classic BPF programs that the kernel runs for a socket. Source: Linux, Documentation/networking/filter.rst. */
import { addressOf, check, libc } from './ffi.ts'

const SOL_SOCKET = 1

/** Ways in which a socket uses a program. Source: socket(7). */
export const programUse = { SO_ATTACH_FILTER: 26, SO_ATTACH_REUSEPORT_CBPF: 51 } as const

/** One instruction; jumps are relative to the next one. Layout of struct sock_filter: code, jt, jf, k. */
export type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number]

/** Replaces the program that the socket has for this use. Throws SystemCallError. */
export function attachProgram(
  fd: number,
  use: keyof typeof programUse,
  program: readonly Instruction[]
): void {
  const code = Buffer.alloc(program.length * 8)
  program.forEach(([opcode, jumpTrue, jumpFalse, k], index) => {
    code.writeUInt16LE(opcode, index * 8)
    code.writeUInt8(jumpTrue, index * 8 + 2)
    code.writeUInt8(jumpFalse, index * 8 + 3)
    code.writeUInt32LE(k >>> 0, index * 8 + 4)
  })
  const header = Buffer.alloc(16) // struct sock_fprog: length, then a pointer
  header.writeUInt16LE(program.length, 0)
  header.writeBigUInt64LE(addressOf(code), 8)
  check('setsockopt', libc.setsockopt(fd, SOL_SOCKET, programUse[use], header, 16), use)
}
