/** One CONNECT stream as a byte stream. */
import type { ByteSink, ByteStream } from '../net/relay.ts'

export class Tunnel implements ByteStream {
  readonly id: number = 0
  attach(_sink: ByteSink): void {
    throw new Error('in progress')
  }
  pause(): void {
    throw new Error('in progress')
  }
  resume(): void {
    throw new Error('in progress')
  }
  write(_chunk: Buffer): boolean {
    throw new Error('in progress')
  }
  cork(): void {
    throw new Error('in progress')
  }
  uncork(): void {
    throw new Error('in progress')
  }
  end(): void {
    throw new Error('in progress')
  }
  close(): void {
    throw new Error('in progress')
  }
  destroy(_error?: Error): void {
    throw new Error('in progress')
  }
}
