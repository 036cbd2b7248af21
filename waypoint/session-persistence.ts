/**
 * Clients that stay at the pod that answered them first, without any state of ours: a cookie or a header of theirs says
 * which it was. Source: Gateway API, SessionPersistence and GEP-1619.
 *
 * Its value is a digest of the pod, the time at which the session began, and a code over both and the rule. So it tells
 * neither address nor name of a pod; it leads only to pods that backends of the rule have now; and what one rule gave
 * is nothing to another.
 *
 * The key has to be the same in all replicas, so it is made from what each of them knows, which is no secret. Whoever
 * knows how can make a value of its own: it may then choose among the pods that it would be sent to anyway, where it
 * knows their full names, and prolong its session. It gets nowhere else, so nothing may be allowed for what a session says.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { ServiceKey, WorkloadUid } from '../shared/mesh/model.ts'
import { cookieValues } from './http/cookies.ts'
import type { HeaderList } from './http/header-list.ts'
import type { SessionCarrier, SessionPersistence } from './routes/route.ts'

/** A pod as sessions name it. */
export type PodTag = string

export interface SessionContext {
  readonly key: Buffer
  /** Milliseconds since the epoch, as other replicas have to agree. */
  readonly now: number
}

/** Bytes of a value: the tag, the time in milliseconds, the code. */
const tagBytes = 12
const timeBytes = 6
const codeBytes = 18

const form = /^[\w-]{48}$/

/** Of several values with the right form so many are looked at. */
const maxValues = 4

/** For all waypoints of a mesh, so that a session outlives the change from one to another. */
export function sessionKey(trustDomain: string): Buffer {
  return createHmac('sha256', 'session persistence').update(trustDomain).digest()
}

/** The pod of the session that a client is in, undefined where it is in none or it is over. Others are for the caller to find. */
export function readSession(
  { rule, carrier, absoluteTimeoutMs = Infinity }: SessionPersistence,
  headers: HeaderList,
  { key, now }: SessionContext
): PodTag | undefined {
  const values = valuesOf(carrier, headers).filter(value => form.test(value))
  for (const value of values.slice(0, maxValues)) {
    const bytes = Buffer.from(value, 'base64url')
    const said = bytes.subarray(0, tagBytes + timeBytes)
    if (!timingSafeEqual(bytes.subarray(said.length), codeOf(said, rule, key))) continue
    if (now - said.readUIntBE(tagBytes, timeBytes) >= absoluteTimeoutMs) continue
    return said.toString('base64url', 0, tagBytes)
  }
  return undefined
}

/** What the answer of a pod has to carry beside its own headers. */
export interface SessionChange {
  readonly answered: PodTag
  /** As {@link readSession} found it. */
  readonly carried: PodTag | undefined
  /** The client's connection is encrypted, so that it may keep the cookie from others. */
  readonly secure: boolean
}

/** Name and value of a header to add; undefined where the client has it already. */
export function writeSession(
  { rule, carrier, absoluteTimeoutMs }: SessionPersistence,
  { answered, carried, secure }: SessionChange,
  { key, now }: SessionContext
): readonly [name: string, value: string] | undefined {
  if (answered === carried) return undefined
  const said = Buffer.alloc(tagBytes + timeBytes)
  said.write(answered, 'base64url')
  said.writeUIntBE(now, tagBytes, timeBytes)
  const value = Buffer.concat([said, codeOf(said, rule, key)]).toString('base64url')
  if (carrier.kind === 'header') return [carrier.name, value]
  const maxAge =
    carrier.permanent && absoluteTimeoutMs !== undefined
      ? `; Max-Age=${Math.ceil(absoluteTimeoutMs / 1000)}`
      : ''
  const cookie = `${carrier.name}=${value}; Path=${carrier.path}${maxAge}; HttpOnly${secure ? '; Secure' : ''}`
  return ['set-cookie', cookie]
}

function valuesOf(carrier: SessionCarrier, headers: HeaderList): readonly string[] {
  return carrier.kind === 'cookie' ? cookieValues(headers, carrier.name) : headers.all(carrier.name)
}

function codeOf(said: Buffer, rule: string, key: Buffer): Buffer {
  return createHmac('sha256', key).update(`session\0${rule}\0`).update(said).digest().subarray(0, codeBytes)
}

/** The pods of a service's port by their tags, which are made once for each. */
export class SessionPods {
  readonly #key: Buffer
  readonly #about: string
  #tags: ReadonlyMap<WorkloadUid, PodTag> = new Map()
  #pods: ReadonlyMap<PodTag, WorkloadUid> = new Map()

  constructor(key: Buffer, service: ServiceKey, port: number) {
    this.#key = key
    this.#about = `pod\0${service}\0${port}\0`
  }

  /** All that there are now. */
  update(uids: Iterable<WorkloadUid>): void {
    const tags = new Map<WorkloadUid, PodTag>()
    for (const uid of uids) tags.set(uid, this.#tags.get(uid) ?? this.#makeTag(uid))
    this.#tags = tags
    this.#pods = new Map(Array.from(tags, ([uid, tag]) => [tag, uid]))
  }

  pod(tag: PodTag): WorkloadUid | undefined {
    return this.#pods.get(tag)
  }

  tag(uid: WorkloadUid): PodTag | undefined {
    return this.#tags.get(uid)
  }

  #makeTag(uid: WorkloadUid): PodTag {
    const digest = createHmac('sha256', this.#key).update(this.#about).update(uid).digest()
    return digest.toString('base64url', 0, tagBytes)
  }
}
