/**
 * The Gateway API's own conformance suite on a real cluster: the mesh profiles, with waypoints of ours.
 * `UNDERPASS_KEEP_REPORT=1` writes the report to docs/conformance/.
 */
import t from 'tap'
import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseYaml } from '../../shared/kube/yaml.ts'
import { clusterMissing } from '../support/cluster.ts'
import { installMesh, startClusterWithImage } from '../support/mesh-cluster.ts'

t.setTimeout(560_000)

/** Everything that the mesh profiles know beyond their core, of what we have. */
const features = [
  'HTTPRoute303RedirectStatusCode',
  'HTTPRoute307RedirectStatusCode',
  'HTTPRoute308RedirectStatusCode',
  'HTTPRouteParentRefPort',
  'HTTPRouteResponseHeaderModification',
  'Mesh',
  'HTTPRoute',
  'GRPCRoute',
  'GRPCRouteNamedRouteRule',
  'GRPCRouteRequestHeaderModifier',
  'MeshClusterIPMatching',
  'MeshConsumerRoute',
  'MeshHTTPRouteBackendRequestHeaderModification',
  'MeshHTTPRouteNamedRouteRule',
  'MeshHTTPRouteQueryParamMatching',
  'MeshHTTPRouteRedirectPath',
  'MeshHTTPRouteRedirectPort',
  'MeshHTTPRouteRewritePath',
  'MeshHTTPRouteSchemeRedirect'
]
const kept = path.resolve(import.meta.dirname, '../../docs/conformance/mesh.yaml')
const namespaces = ['gateway-conformance-mesh', 'gateway-conformance-mesh-consumer']

interface Report {
  readonly profiles: readonly {
    readonly name: string
    readonly core: Result
    readonly extended?: Result & { readonly unsupportedFeatures?: readonly string[] }
  }[]
}

interface Result {
  readonly result: string
  readonly failedTests?: readonly string[]
  readonly statistics: { readonly Passed: number; readonly Failed: number; readonly Skipped: number }
}

t.test('the mesh profiles of the Gateway API', { skip: clusterMissing() }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-conformance-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const cluster = await startClusterWithImage(t, 2)
  await installMesh(cluster)
  for (const name of namespaces) await cluster.kubectl(['apply', '-f', '-'], withWaypoint(name))
  for (const name of namespaces) {
    const wait = ['wait', '--for=condition=Programmed', 'gateway/waypoint', '--timeout=60s']
    await cluster.kubectl(['-n', name, ...wait])
  }
  const report = path.join(folder, 'report.yaml')
  const { code, output } = await suite(cluster.kubeconfig, report)
  const outcomes = output.split('\n').filter(line => /^ *--- (?:PASS|FAIL)/.test(line))
  for (const line of outcomes) t.comment(line.trim())
  t.strictSame(
    outcomes.filter(line => line.includes('--- FAIL')),
    [],
    'no test of the suite fails'
  )
  t.equal(code, 0, output.slice(-4000))
  const { profiles } = parseYaml(readFileSync(report, 'utf8'), 'report') as Report
  t.strictSame(
    profiles
      .map(({ name, core, extended }) => [name, core.result, extended?.result])
      .toSorted(([a = ''], [b = '']) => a.localeCompare(b)),
    [
      ['MESH-GRPC', 'success', undefined],
      ['MESH-HTTP', 'success', 'success']
    ]
  )
  for (const { core, extended } of profiles) {
    t.equal(core.statistics.Failed + core.statistics.Skipped, 0)
    t.strictSame(extended?.unsupportedFeatures ?? [], [])
  }
  if (process.env['UNDERPASS_KEEP_REPORT'] !== '1') return
  mkdirSync(path.dirname(kept), { recursive: true })
  copyFileSync(report, kept)
})

function withWaypoint(name: string): string {
  return `apiVersion: v1
kind: Namespace
metadata:
  name: ${name}
  labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint, gateway-conformance: mesh}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: ${name}}
spec:
  gatewayClassName: underpass-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
`
}

async function suite(kubeconfig: string, report: string): Promise<{ code: number; output: string }> {
  const program = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'gateway-api-conformance')
  const only = process.env['UNDERPASS_CONFORMANCE_TEST']
  const child = spawn(
    program,
    [
      ...['-test.v', '-test.run', '^TestConformance$', `--kubeconfig=${kubeconfig}`],
      '--cleanup-base-resources=false', // the cluster goes as a whole
      ...[
        '--conformance-profiles=MESH-HTTP,MESH-GRPC',
        '--mesh-name=underpass',
        '--gateway-class=underpass-waypoint'
      ],
      `--supported-features=${features.join(',')}`,
      ...[
        '--organization=underpass',
        '--project=underpass',
        '--url=https://underpass.dev',
        '--version=v0.1.0'
      ],
      ...['--contact=https://underpass.dev', '--allow-crds-mismatch=true', `--report-output=${report}`],
      ...['--namespace-labels=istio.io/dataplane-mode=ambient,istio.io/use-waypoint=waypoint'],
      ...(only === undefined ? [] : [`--run-test=${only}`])
    ],
    { env: { ...process.env, KUBECONFIG: kubeconfig }, stdio: ['ignore', 'pipe', 'pipe'] }
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  }
  const code = await new Promise<number>(resolve => child.on('close', status => resolve(status ?? 1)))
  return { code, output }
}
