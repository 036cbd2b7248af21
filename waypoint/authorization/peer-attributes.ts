/**
 * Tests of the client's identity, which has the form `spiffe://<trust domain>/ns/<namespace>/sa/<account>`. None holds for a client without one.
 */
import type { SpiffeId } from '../../shared/identity/spiffe-id.ts'
import type { Test } from './facts.ts'
import { globPattern, textPattern, type TextTest } from './text-pattern.ts'

const scheme = 'spiffe://'
const accountName = /^(?:[^/*]+\/)?[^/*]+$/

/** Patterns of `<trust domain>/ns/<namespace>/sa/<account>`. */
export function principalTest(value: string, trustDomains: readonly string[]): Test {
  const tests = withAliases(value, trustDomains).map(one => {
    // A pattern that begins with a star is of the end alone.
    return textPattern(one.startsWith('*') ? one : scheme + one)
  })
  return ofPeer(peer => anyFits(tests, peer))
}

/** A star stands for anything within the namespace, wherever it is. */
export function namespaceTest(value: string): Test {
  if (!value.includes('*')) {
    const part = `/ns/${value}/sa/`
    return ofPeer(peer => peer.startsWith(part, peer.indexOf('/ns/')))
  }
  const matches = globPattern(value)
  return ofPeer(peer => {
    const start = peer.indexOf('/ns/') + 4
    return matches(peer.slice(start, peer.indexOf('/sa/', start)))
  })
}

/** `<namespace>/<account>`, or an account of the policy's own namespace. Throws an Error with what is wrong. */
export function serviceAccountTest(value: string, ownNamespace: string): Test {
  if (!accountName.test(value) || value.length > 320) {
    throw new Error(
      `${JSON.stringify(value)} is no service account: write account or namespace/account, no wildcards`
    )
  }
  const slash = value.indexOf('/')
  const namespace = slash < 0 ? ownNamespace : value.slice(0, slash)
  const end = `/ns/${namespace}/sa/${value.slice(slash + 1)}`
  return ofPeer(peer => peer.endsWith(end))
}

/** Throws an Error with what is wrong. */
export function trustDomainTest(value: string, trustDomains: readonly string[]): Test {
  if (value.includes('/') || value.split('*').length > 2) {
    throw new Error(`${JSON.stringify(value)} is no trust domain: write a name with one wildcard at most`)
  }
  const tests = (trustDomains.includes(value) ? trustDomains : [value]).map(globPattern)
  return ofPeer(peer => anyFits(tests, peer.slice(scheme.length, peer.indexOf('/', scheme.length))))
}

/**
 * A principal of one of our trust domains is one of all of them. `cluster.local` stands for ours, whatever their names.
 * Source: Istio's published `trustDomainAliases`.
 */
function withAliases(principal: string, trustDomains: readonly string[]): readonly string[] {
  const [written = '', ...rest] = principal.split('/')
  if (rest.length !== 4 || written === '*') return [principal]
  const ours = trustDomains.some(name => overlap(written, name))
  if (!ours && written !== 'cluster.local') return [principal]
  return trustDomains.map(name =>
    written.startsWith('*') && name.endsWith(written.slice(1)) ? principal : [name, ...rest].join('/')
  )
}

function ofPeer(test: (peer: SpiffeId) => boolean): Test {
  return ({ peer }) => peer !== undefined && test(peer)
}

/** Either of the two may have a wildcard. */
function overlap(one: string, other: string): boolean {
  return textPattern(one)(other) || textPattern(other)(one)
}

function anyFits(tests: readonly TextTest[], text: string): boolean {
  for (const test of tests) if (test(text)) return true
  return false
}
