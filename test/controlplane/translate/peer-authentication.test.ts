import t from 'tap'
import {
  peerAuthenticationPolicies,
  translatePeerAuthentication
} from '../../../controlplane/translate/peer-authentication.ts'
import { world } from '../world.ts'

type Mode = 'STRICT' | 'PERMISSIVE' | 'DISABLE' | 'UNSET'

const presence = { notPrincipals: [{ presence: {} }] }
const except = (...ports: number[]): object => ({
  clauses: [{ matches: [presence] }, ...ports.map(port => ({ matches: [{ notDestinationPorts: [port] }] }))]
})
const only = (port: number): object => ({
  clauses: [{ matches: [{ ...presence, destinationPorts: [port] }] }]
})

const strict = ['istio-system/istio_converted_static_strict']
const own = ['shop/converted_peer_authentication_own']

function policy(name: string, namespace: string, mode?: Mode, more = ''): string {
  const mtls = mode === undefined ? '' : `mtls: {mode: ${mode}}, `
  return `kind: PeerAuthentication\nmetadata: {name: ${name}, namespace: ${namespace}, creationTimestamp: "2020-01-01T00:00:00Z"}\nspec: {${mtls}${more}}\n---\n`
}

t.test('mesh × namespace × workload × port', async t => {
  const ports = (modes: Record<number, Mode>): string =>
    `portLevelMtls: {${Object.entries(modes)
      .map(([port, mode]) => `${port}: {mode: ${mode}}`)
      .join(', ')}}`
  const rows: readonly {
    mesh?: Mode
    namespace?: Mode
    workload?: Mode | 'none'
    ports?: Record<number, Mode>
    expect: readonly string[]
    rules?: readonly object[]
  }[] = [
    { expect: [] },
    { mesh: 'PERMISSIVE', expect: [] },
    { mesh: 'DISABLE', expect: [] },
    { mesh: 'STRICT', expect: strict },
    { mesh: 'UNSET', expect: [] },
    { mesh: 'STRICT', namespace: 'PERMISSIVE', expect: [] },
    { mesh: 'STRICT', namespace: 'DISABLE', expect: [] },
    { mesh: 'STRICT', namespace: 'UNSET', expect: strict },
    { mesh: 'PERMISSIVE', namespace: 'STRICT', expect: strict },
    { namespace: 'STRICT', expect: strict },
    { mesh: 'STRICT', workload: 'PERMISSIVE', expect: [] },
    { mesh: 'STRICT', workload: 'DISABLE', expect: [] },
    { mesh: 'STRICT', workload: 'UNSET', expect: strict },
    { namespace: 'PERMISSIVE', workload: 'STRICT', expect: strict },
    { workload: 'STRICT', expect: strict },
    // a workload policy that has ports
    { workload: 'STRICT', ports: { 80: 'PERMISSIVE' }, expect: own, rules: [except(80)] },
    { workload: 'STRICT', ports: { 80: 'DISABLE' }, expect: own, rules: [except(80)] },
    {
      workload: 'STRICT',
      ports: { 90: 'PERMISSIVE', 80: 'DISABLE', 70: 'STRICT' },
      expect: own,
      rules: [except(80, 90)]
    },
    { workload: 'STRICT', ports: { 80: 'STRICT' }, expect: strict },
    { workload: 'STRICT', ports: { 80: 'UNSET' }, expect: strict },
    { workload: 'PERMISSIVE', ports: { 80: 'STRICT', 81: 'PERMISSIVE' }, expect: own, rules: [only(80)] },
    { workload: 'DISABLE', ports: { 80: 'STRICT', 81: 'STRICT' }, expect: own, rules: [only(80), only(81)] },
    { workload: 'PERMISSIVE', ports: { 80: 'DISABLE' }, expect: [] },
    { mesh: 'STRICT', workload: 'PERMISSIVE', ports: { 80: 'STRICT' }, expect: own, rules: [only(80)] },
    // UNSET inherits
    { workload: 'UNSET', ports: { 80: 'STRICT' }, expect: own, rules: [only(80)] },
    { mesh: 'PERMISSIVE', workload: 'none', ports: { 80: 'STRICT' }, expect: own, rules: [only(80)] },
    { mesh: 'STRICT', workload: 'UNSET', ports: { 80: 'PERMISSIVE' }, expect: own, rules: [except(80)] },
    { namespace: 'STRICT', workload: 'none', ports: { 80: 'DISABLE' }, expect: own, rules: [except(80)] },
    {
      mesh: 'STRICT',
      namespace: 'UNSET',
      workload: 'UNSET',
      ports: { 80: 'DISABLE' },
      expect: own,
      rules: [except(80)]
    },
    { mesh: 'STRICT', namespace: 'PERMISSIVE', workload: 'UNSET', ports: { 80: 'PERMISSIVE' }, expect: [] },
    { mesh: 'STRICT', workload: 'UNSET', ports: { 80: 'STRICT' }, expect: strict }
  ]
  for (const row of rows) {
    const { mesh, namespace, workload, expect, rules } = row
    const selected = `selector: {matchLabels: {app: web}}, ${row.ports === undefined ? '' : ports(row.ports)}`
    const view = world(
      (mesh === undefined ? '' : policy('mesh', 'istio-system', mesh)) +
        (namespace === undefined ? '' : policy('namespace', 'shop', namespace)) +
        (workload === undefined
          ? ''
          : policy('own', 'shop', workload === 'none' ? undefined : workload, selected))
    )
    const name = JSON.stringify({ mesh, namespace, workload, ports: row.ports })
    t.strictSame(peerAuthenticationPolicies(view, 'shop', { app: 'web' }), expect, name)
    const object = view.get('PeerAuthentication', 'shop/own')
    const converted = object === undefined ? undefined : translatePeerAuthentication(view, object)
    t.strictSame(converted?.rules, rules, `rules of ${name}`)
  }
})

t.test('which policies count', async t => {
  const selected = 'selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: STRICT}}'
  const labels = { app: 'web' }
  t.strictSame(
    peerAuthenticationPolicies(world(policy('own', 'shop', 'STRICT', selected)), 'shop', { app: 'db' }),
    [],
    'not one for other workloads'
  )
  t.strictSame(
    peerAuthenticationPolicies(world(policy('own', 'other', 'STRICT')), 'shop', labels),
    [],
    'not one of another namespace'
  )
  const root = world(policy('own', 'istio-system', 'PERMISSIVE', selected))
  const inRoot = root.get('PeerAuthentication', 'istio-system/own')
  t.strictSame(
    peerAuthenticationPolicies(root, 'istio-system', labels),
    [],
    'not a selector in the root namespace'
  )
  t.equal(inRoot === undefined ? inRoot : translatePeerAuthentication(root, inRoot), undefined)
  const everywhere = world(policy('own', 'shop', 'PERMISSIVE', 'portLevelMtls: {80: {mode: STRICT}}'))
  const withoutSelector = everywhere.get('PeerAuthentication', 'shop/own')
  t.equal(
    withoutSelector === undefined
      ? withoutSelector
      : translatePeerAuthentication(everywhere, withoutSelector),
    undefined,
    'not ports without a selector'
  )
  const older = policy('older', 'shop', 'PERMISSIVE').replace('2020', '2019')
  t.strictSame(
    peerAuthenticationPolicies(world(policy('newer', 'shop', 'STRICT') + older), 'shop', labels),
    [],
    'the oldest of equals'
  )
})
