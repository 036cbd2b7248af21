/**
 * The messages between node agent and ztunnel, one protobuf message per packet.
 * Source: Istio, package istio.workload.zds (zds.proto) and the behaviour of istio-cni and ztunnel.
 */
import { message } from '../xds/schema.ts'

/** Where ztunnel reads a packet into; a larger message would be cut, which ends the connection. */
export const maxMessageBytes = 1024

export interface WorkloadInfo {
  readonly name: string
  readonly namespace: string
  readonly serviceAccount: string
}

/** What the agent asks of ztunnel. `uid` is the Kubernetes UID of the pod. Only `add` carries a descriptor. */
export type ZdsRequest =
  | { readonly kind: 'add'; readonly uid: string; readonly workload: WorkloadInfo | undefined }
  | { readonly kind: 'keep'; readonly uid: string }
  | { readonly kind: 'del'; readonly uid: string }
  | { readonly kind: 'snapshot-sent' }

interface WireRequest {
  readonly add?: { readonly uid?: string; readonly workloadInfo?: Partial<WorkloadInfo> }
  readonly keep?: { readonly uid?: string }
  readonly del?: { readonly uid?: string }
  readonly snapshotSent?: Record<string, never>
}

const hello = message<{ version?: number }>('istio.workload.zds.ZdsHello')
const request = message<WireRequest>('istio.workload.zds.WorkloadRequest')
const response = message<{ ack?: { error?: string } }>('istio.workload.zds.WorkloadResponse')

/** A packet that is not the message it should be. */
export class ZdsProtocolError extends Error {
  override readonly name = 'ZdsProtocolError'
}

export function encodeHello(): Buffer {
  return hello.encode({ version: 1 })
}

/** Throws {@link ZdsProtocolError} unless the packet greets with version 1. */
export function decodeHello(bytes: Uint8Array): void {
  const { version = 0 } = decodePacket('ZdsHello', hello, bytes)
  if (version !== 1) throw new ZdsProtocolError(`the peer speaks ZDS version ${version}; expected 1`)
}

export function encodeRequest(value: ZdsRequest): Buffer {
  const bytes = request.encode(toWire(value))
  if (bytes.length > maxMessageBytes) {
    throw new ZdsProtocolError(`a ${value.kind} message of ${bytes.length} bytes; at most ${maxMessageBytes}`)
  }
  return bytes
}

/** Throws {@link ZdsProtocolError} for what is no WorkloadRequest. */
export function decodeRequest(bytes: Uint8Array): ZdsRequest {
  const { add, keep, del, snapshotSent } = decodePacket('WorkloadRequest', request, bytes)
  if (add !== undefined) return { kind: 'add', uid: add.uid ?? '', workload: workloadOf(add.workloadInfo) }
  if (keep !== undefined) return { kind: 'keep', uid: keep.uid ?? '' }
  if (del !== undefined) return { kind: 'del', uid: del.uid ?? '' }
  if (snapshotSent !== undefined) return { kind: 'snapshot-sent' }
  throw new ZdsProtocolError('a WorkloadRequest without payload')
}

/** The answer to each request; no error means done. */
export function encodeAck(error = ''): Buffer {
  return response.encode({ ack: { error } })
}

/** The text of a refusal, undefined when the request was accepted. Throws {@link ZdsProtocolError}. */
export function decodeAck(bytes: Uint8Array): string | undefined {
  const { ack } = decodePacket('WorkloadResponse', response, bytes)
  if (ack === undefined) throw new ZdsProtocolError('a WorkloadResponse without payload')
  return ack.error === undefined || ack.error === '' ? undefined : ack.error
}

function toWire(value: ZdsRequest): WireRequest {
  switch (value.kind) {
    case 'add':
      return {
        add: { uid: value.uid, ...(value.workload === undefined ? {} : { workloadInfo: value.workload }) }
      }
    case 'keep':
      return { keep: { uid: value.uid } }
    case 'del':
      return { del: { uid: value.uid } }
    case 'snapshot-sent':
      return { snapshotSent: {} }
    default:
      return value satisfies never
  }
}

function workloadOf(wire: Partial<WorkloadInfo> | undefined): WorkloadInfo | undefined {
  if (wire === undefined) return undefined
  return {
    name: wire.name ?? '',
    namespace: wire.namespace ?? '',
    serviceAccount: wire.serviceAccount ?? ''
  }
}

function decodePacket<T>(name: string, type: { decode(bytes: Uint8Array): T }, bytes: Uint8Array): T {
  try {
    return type.decode(bytes)
  } catch (error) {
    throw new ZdsProtocolError(`a packet of ${bytes.length} bytes is no ${name}`, { cause: error })
  }
}
