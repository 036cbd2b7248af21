/**
 * Clients that stay at the pod that answered them first, without any state of ours: a cookie or a header of theirs says
 * which it was. Source: Gateway API, SessionPersistence; GEP-1619.
 *
 * Its value is a digest of the pod, the time at which the session began, and a code over both and the rule. So it tells
 * neither address nor name of a pod; it leads only to pods that backends of the rule have now; and what one rule gave
 * is nothing to another.
 *
 * The key has to be the same in all replicas, so it is made from what each of them knows, which is no secret. Whoever
 * knows how can make values of its own: for pods that it may be sent to anyway and whose full names it knows, and for
 * as long as it likes. They lead nowhere else, and nobody may be allowed anything for what a session says.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import type { ServiceKey, WorkloadUid } from '../shared/mesh/model.ts'
import { cookieValues } from './http/cookies.ts'
import type { HeaderList } from './http/header-list.ts'
import type { SessionCarrier, SessionPersistence } from './routes/route.ts'

/** A pod as sessions name it. */
export type PodTag = string

export interface SessionContext {
  readonly key: string
  /** Milliseconds since the epoch: other replicas have to agree. */
  readonly now: number
}

/** Characters of a value: the tag, the time in milliseconds, the code. */
const tagLength = 16
const timeLength = 9
const codeLength = 24

const form = /^[\w-]{16}[0-9a-z]{9}[\w-]{24}$/

/** Of several values with the right form so many are looked at. */
const maxValues = 4

/** For all waypoints of a mesh, so that sessions outlive the change from one to another. */
export function sessionKey(trustDomain: string): string {
  return hash('sha256', `session persistence\0${trustDomain}`)
}

/** The pod of the session that a client is in; undefined where it is in none, or it is over. */
export function readSession(
  { rule, carrier, absoluteTimeoutMs = Infinity }: SessionPersistence,
  headers: HeaderList,
  { key, now }: SessionContext
): PodTag | undefined {
  const values = valuesOf(carrier, headers).filter(value => form.test(value))
  for (const value of values.slice(0, maxValues)) {
    const said = value.slice(0, -codeLength)
    if (!timingSafeEqual(Buffer.from(value.slice(-codeLength)), Buffer.from(codeOf(said, rule, key))))
      continue
    const begunAt = Number.parseInt(said.slice(tagLength), 36)
    if (now - begunAt < absoluteTimeoutMs) return said.slice(0, tagLength)
  }
  return undefined
}

export interface SessionChange {
  /** The pod whose answer it is. */
  readonly answered: PodTag
  /** As {@link readSession} found it. */
  readonly carried: PodTag | undefined
  /** The client's connection is encrypted; it is told to send the cookie over no other. */
  readonly secure: boolean
}

/** Name and value of a header to add to the answer; undefined where the client has it already. */
export function writeSession(
  { rule, carrier, absoluteTimeoutMs }: SessionPersistence,
  { answered, carried, secure }: SessionChange,
  { key, now }: SessionContext
): readonly [name: string, value: string] | undefined {
  if (answered === carried) return undefined
  const said = answered + now.toString(36).padStart(timeLength, '0')
  const value = said + codeOf(said, rule, key)
  if (carrier.kind === 'header') return [carrier.name, value]
  const seconds = Math.ceil((absoluteTimeoutMs ?? 0) / 1000)
  const maxAge = carrier.permanent ? `; Max-Age=${seconds}` : ''
  const attributes = `; Path=${carrier.path}${maxAge}; HttpOnly${secure ? '; Secure' : ''}`
  return ['set-cookie', `${carrier.name}=${value}${attributes}`]
}

function valuesOf(carrier: SessionCarrier, headers: HeaderList): readonly string[] {
  return carrier.kind === 'cookie' ? cookieValues(headers, carrier.name) : headers.all(carrier.name)
}

/** Cut short, so that nobody can go on from it. */
function codeOf(said: string, rule: string, key: string): string {
  return hash('sha256', `${key}\0session\0${rule}\0${said}`, 'base64url').slice(0, codeLength)
}

/** The pods of a service's port by their tags, which are made once for each. */
export class SessionPods {
  readonly #about: string
  #tags: ReadonlyMap<WorkloadUid, PodTag> = new Map()
  #pods: ReadonlyMap<PodTag, WorkloadUid> = new Map()

  constructor(key: string, service: ServiceKey, port: number) {
    this.#about = `${key}\0pod\0${service}\0${port}\0`
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
    return hash('sha256', this.#about + uid, 'base64url').slice(0, tagLength)
  }
}
