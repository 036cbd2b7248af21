/** What runs in pods, as far as the API serves it: the lab's kubelet implements this. */
import type { Duplex, Readable, Writable } from 'node:stream'

export interface ContainerRef {
  readonly namespace: string
  readonly pod: string
  /** Name of a container of the pod, already checked against its spec. */
  readonly container: string
}

export interface LogRequest {
  readonly follow: boolean
  /** Of the instance before the last restart. */
  readonly previous: boolean
  /** RFC 3339 time in front of each line. */
  readonly timestamps: boolean
  readonly tailLines?: number
  readonly sinceSeconds?: number
  readonly sinceTime?: string
  readonly limitBytes?: number
}

export interface ExecRequest {
  readonly command: readonly string[]
  readonly tty: boolean
  /** Ends when the client closed its input; already ended when the client sends none. */
  readonly stdin: Readable
  readonly stdout: Writable
  /** With `tty` everything goes to `stdout`. */
  readonly stderr: Writable
  /** Called for each new size of the client's terminal. */
  onResize(listener: (size: { columns: number; rows: number }) => void): void
}

/**
 * Throw an `ApiError` to refuse before anything was sent. The signal aborts when the client is gone or the
 * store closes.
 */
export interface PodRuntime {
  /** Bytes of the container's log; with `follow` the stream ends when the container does. */
  logs(container: ContainerRef, request: LogRequest, signal: AbortSignal): Promise<Readable>
  /** Runs a command in the container; resolves to its exit code (128 + n when signal n ended it). */
  exec(container: ContainerRef, request: ExecRequest, signal: AbortSignal): Promise<number>
  /** A connection to the port inside the pod, on the pod's loopback address as the kubelet does. */
  portForward(pod: { namespace: string; pod: string }, port: number, signal: AbortSignal): Promise<Duplex>
}
