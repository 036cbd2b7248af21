/** A peer that writes whatever bytes a test wants and records the frames that come back. */
import type { Duplex } from 'node:stream'
import { FrameReader, type FrameHandler } from '../../../shared/hbone/frame-reader.ts'
import {
  clientPreface,
  errorName,
  frameHeader,
  frameType,
  headersFrames,
  settingsFrame,
  type Fault,
  type SettingPairs
} from '../../../shared/hbone/frames.ts'
import type { HeaderList } from '../../../shared/hbone/header-field.ts'
import { encodeHeaders, HpackDecoder } from '../../../shared/hbone/hpack.ts'

export type Recorded =
  | { readonly kind: 'data'; readonly streamId: number; readonly bytes: Buffer; readonly endStream: boolean }
  | {
      readonly kind: 'headers'
      readonly streamId: number
      readonly fields: HeaderList
      readonly endStream: boolean
    }
  | { readonly kind: 'rst'; readonly streamId: number; readonly code: string }
  | { readonly kind: 'settings'; readonly pairs: SettingPairs }
  | { readonly kind: 'settings-ack' }
  | { readonly kind: 'ping'; readonly ack: boolean; readonly opaque: string }
  | { readonly kind: 'goaway'; readonly lastStreamId: number; readonly code: string; readonly debug: string }
  | { readonly kind: 'window'; readonly streamId: number; readonly increment: number }
  | { readonly kind: 'fault'; readonly streamId: number; readonly code: string }
  | { readonly kind: 'idle'; readonly type: number }
  | { readonly kind: 'padding'; readonly length: number }

/** Writes down everything that a reader says. */
export class Recorder implements FrameHandler {
  readonly frames: Recorded[] = []
  readonly onFrame: (frame: Recorded) => void
  readonly #decoder = new HpackDecoder(1 << 20)

  constructor(onFrame: (frame: Recorded) => void = () => undefined) {
    this.onFrame = onFrame
  }

  data(streamId: number, piece: Buffer, _flowLength: number, endStream: boolean): Fault | undefined {
    return this.#add({ kind: 'data', streamId, bytes: Buffer.from(piece), endStream })
  }

  padding(_streamId: number, length: number): Fault | undefined {
    return this.#add({ kind: 'padding', length })
  }

  headers(streamId: number, block: Buffer, endStream: boolean): Fault | undefined {
    const decoded = this.#decoder.decode(block)
    const fields = decoded.kind === 'fields' ? decoded.fields : []
    return this.#add({ kind: 'headers', streamId, fields, endStream })
  }

  rstStream(streamId: number, code: number): Fault | undefined {
    return this.#add({ kind: 'rst', streamId, code: errorName(code) })
  }

  settings(pairs: SettingPairs): Fault | undefined {
    return this.#add({ kind: 'settings', pairs })
  }

  settingsAck(): Fault | undefined {
    return this.#add({ kind: 'settings-ack' })
  }

  ping(opaque: Buffer, ack: boolean): Fault | undefined {
    return this.#add({ kind: 'ping', ack, opaque: opaque.toString('latin1') })
  }

  goaway(lastStreamId: number, code: number, debug: string): Fault | undefined {
    return this.#add({ kind: 'goaway', lastStreamId, code: errorName(code), debug })
  }

  windowUpdate(streamId: number, increment: number): Fault | undefined {
    return this.#add({ kind: 'window', streamId, increment })
  }

  streamFault(streamId: number, code: number): Fault | undefined {
    return this.#add({ kind: 'fault', streamId, code: errorName(code) })
  }

  idle(type: number): Fault | undefined {
    return this.#add({ kind: 'idle', type })
  }

  #add(frame: Recorded): undefined {
    this.frames.push(frame)
    this.onFrame(frame)
    return undefined
  }
}

export class RawPeer {
  readonly stream: Duplex
  readonly frames: Recorded[]
  ended = false
  readonly #waiting = new Set<() => void>()

  /** `client`: this peer plays the client, so it reads no preface. */
  constructor(stream: Duplex, client: boolean) {
    this.stream = stream
    const wake = (): void => {
      for (const look of this.#waiting) look()
    }
    const recorder = new Recorder(wake)
    this.frames = recorder.frames
    const limits = { maxFrameSize: 1 << 24, maxHeaderBlock: 1 << 24, maxContinuations: 10_000 }
    const reader = new FrameReader(recorder, limits, !client)
    stream.on('data', (chunk: Buffer) => void reader.read(chunk))
    stream.on('end', () => {
      this.ended = true
      wake()
    })
    stream.on('error', () => undefined)
  }

  send(...frames: Buffer[]): void {
    for (const bytes of frames) if (this.stream.writable) this.stream.write(bytes)
  }

  /** Preface and SETTINGS of a client. */
  greet(pairs: SettingPairs = []): void {
    this.send(clientPreface, settingsFrame(pairs))
  }

  request(streamId: number, fields: HeaderList = connectFields, endStream = false): void {
    this.send(headersFrames(streamId, encodeHeaders(fields), endStream, 16_384))
  }

  sendData(streamId: number, bytes: Buffer | string, endStream = false): void {
    const content = Buffer.from(bytes)
    this.send(frameHeader(content.length, frameType.data, endStream ? 1 : 0, streamId), content)
  }

  /** The first frame that fits, seen or to come; undefined when the connection ends without one. */
  async frame<Kind extends Recorded['kind']>(
    kind: Kind,
    fits: (frame: Extract<Recorded, { kind: Kind }>) => boolean = () => true
  ): Promise<Extract<Recorded, { kind: Kind }> | undefined> {
    return this.#when(() => {
      const found = this.frames.find(
        (frame): frame is Extract<Recorded, { kind: Kind }> =>
          frame.kind === kind && fits(frame as Extract<Recorded, { kind: Kind }>)
      )
      return found === undefined && !this.ended ? pending : found
    })
  }

  /** Resolves when the other side has ended the connection. */
  async end(): Promise<void> {
    await this.#when(() => (this.ended ? undefined : pending))
  }

  /** Everything sent so far has been dealt with: a PING has come back. */
  async settled(): Promise<void> {
    const opaque = `sync${String(this.frames.length).padStart(4, '0')}`
    this.send(frameHeader(8, frameType.ping, 0, 0), Buffer.from(opaque, 'latin1'))
    await this.frame('ping', frame => frame.ack && frame.opaque === opaque)
  }

  #when<T>(look: () => T | typeof pending): Promise<T> {
    return new Promise(resolve => {
      const again = (): void => {
        const found = look()
        if (found === pending) return
        this.#waiting.delete(again)
        resolve(found)
      }
      this.#waiting.add(again)
      again()
    })
  }
}

const pending = Symbol('pending')

export const connectFields: HeaderList = [
  [':method', 'CONNECT'],
  [':authority', '10.0.0.1:80']
]
