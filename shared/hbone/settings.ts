/** SETTINGS of HTTP/2: what we announce, and what a peer's frame changes. Pure. Source: RFC 9113 section 6.5, RFC 8441 section 3. */
import { defaultFrameSize, fault, maxWindow, settingId, type Fault, type SettingPairs } from './frames.ts'
import type { SessionOptions } from './session-options.ts'

export const defaultWindow = 65_535

/** What a peer allows us. */
export interface PeerSettings {
  readonly maxConcurrentStreams: number
  /** Bytes we may send on a new stream before the first WINDOW_UPDATE. */
  readonly initialWindow: number
  /** Largest frame payload we may send, bytes. */
  readonly maxFrameSize: number
  readonly maxHeaderListSize: number
  /** It takes CONNECT with `:protocol`. */
  readonly connectProtocol: boolean
}

/** Before the peer's first SETTINGS. `maxStreams` is our assumption; RFC 9113 knows no limit then. */
export function initialPeerSettings(maxStreams: number): PeerSettings {
  return {
    maxConcurrentStreams: maxStreams,
    initialWindow: defaultWindow,
    maxFrameSize: defaultFrameSize,
    maxHeaderListSize: Infinity,
    connectProtocol: false
  }
}

/** What we announce at the start, by our options. */
export function announcedSettings(options: Required<SessionOptions>, server: boolean): SettingPairs {
  return [
    [settingId.headerTableSize, 0],
    server ? [settingId.maxConcurrentStreams, options.maxStreams] : [settingId.enablePush, 0],
    [settingId.initialWindowSize, options.streamWindow],
    [settingId.maxFrameSize, options.maxFrameSize],
    [settingId.maxHeaderListSize, options.maxHeaderListSize],
    ...(server && options.connectProtocol ? [[settingId.enableConnectProtocol, 1] as const] : [])
  ]
}

export type AppliedSettings =
  | { readonly kind: 'applied'; readonly settings: PeerSettings }
  | { readonly kind: 'fault'; readonly fault: Fault }

/** Unknown settings are skipped. `fromServer`: a server may not enable push. */
export function applySettings(
  current: PeerSettings,
  pairs: SettingPairs,
  fromServer: boolean
): AppliedSettings {
  let { maxConcurrentStreams, initialWindow, maxFrameSize, maxHeaderListSize, connectProtocol } = current
  for (const [id, value] of pairs) {
    switch (id) {
      case settingId.enablePush:
        if (value > (fromServer ? 0 : 1)) return invalid('PROTOCOL_ERROR', `ENABLE_PUSH of ${value}`)
        break
      case settingId.maxConcurrentStreams:
        maxConcurrentStreams = value
        break
      case settingId.initialWindowSize:
        if (value > maxWindow) return invalid('FLOW_CONTROL_ERROR', `INITIAL_WINDOW_SIZE of ${value}`)
        initialWindow = value
        break
      case settingId.maxFrameSize:
        if (value < defaultFrameSize || value > 0xff_ffff)
          return invalid('PROTOCOL_ERROR', `MAX_FRAME_SIZE of ${value}`)
        maxFrameSize = value
        break
      case settingId.maxHeaderListSize:
        maxHeaderListSize = value
        break
      case settingId.enableConnectProtocol:
        if (value > 1 || (value === 0 && connectProtocol))
          return invalid('PROTOCOL_ERROR', `ENABLE_CONNECT_PROTOCOL of ${value}`)
        connectProtocol = value === 1
        break
      default:
        break
    }
  }
  return {
    kind: 'applied',
    settings: { maxConcurrentStreams, initialWindow, maxFrameSize, maxHeaderListSize, connectProtocol }
  }
}

function invalid(name: 'PROTOCOL_ERROR' | 'FLOW_CONTROL_ERROR', reason: string): AppliedSettings {
  return { kind: 'fault', fault: fault(name, reason) }
}
