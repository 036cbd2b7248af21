/** The Helm chart: what it renders, what its values may be, and that the API server takes it and its permissions suffice. */
import t from 'tap'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseAllYaml } from '../../shared/kube/yaml.ts'
import { eventually } from '../support/eventually.ts'
import { type KubeApiserver, needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'
import { definitionList } from '../support/mesh-cluster.ts'

const root = path.resolve(import.meta.dirname, '../..')
const chart = path.join(root, 'daemonset/chart')
const manifest = path.join(root, 'daemonset/manifests/underpass.yaml')
const peers = process.env['UNDERPASS_PEERS'] ?? ''
const needsHelm = existsSync(path.join(peers, 'helm')) ? false : 'needs helm in UNDERPASS_PEERS'

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
  readonly verbs: readonly string[]
}

interface Container {
  readonly name: string
  readonly image: string
  readonly env: readonly { readonly name: string; readonly value?: string }[]
  readonly resources?: { readonly requests?: Readonly<Record<string, string>> }
  readonly readinessProbe?: object
  readonly securityContext: {
    readonly readOnlyRootFilesystem?: boolean
    readonly privileged?: boolean
    readonly allowPrivilegeEscalation?: boolean
    readonly capabilities: { readonly drop: readonly string[]; readonly add?: readonly string[] }
  }
}

interface PodSpec {
  readonly containers: readonly Container[]
  readonly volumes: readonly { readonly hostPath?: { readonly path: string } }[]
  readonly automountServiceAccountToken?: boolean
  readonly hostPID?: boolean
  readonly hostIPC?: boolean
  readonly priorityClassName?: string
  readonly securityContext: {
    readonly runAsNonRoot?: boolean
    readonly seccompProfile: { readonly type: string }
  }
}

interface Manifest {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
  }
  readonly rules?: readonly Rule[]
  readonly spec?: { readonly template?: { readonly spec: PodSpec }; readonly [field: string]: unknown }
  readonly data?: Readonly<Record<string, string>>
}

/** Values that a careful operator sets all at once: every switch is the other way round. */
const everything = `
global:
  imagePullSecrets: [registry]
  networkPolicy: {enabled: true}
  logAsJson: true
  nativeNftables: true
  platform: gke
  network: east
revision: canary
meshConfig:
  trustDomain: example.org
  discoverySelectors: [{matchLabels: {mesh: "yes"}}]
  defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}}
controlPlane:
  replicaCount: 2
  env: {ISTIOD_CUSTOM_HOST: istiod.example.org}
  tolerations: [{key: infra, operator: Exists}]
  affinity: {nodeAffinity: {}}
  nodeSelector: {infra: "true"}
  podLabels: {team: mesh}
nodeAgent:
  ambient:
    dnsCapture: true
    shareHostNetworkNamespace: false
    enablementSelectors: [{podSelector: {matchLabels: {mesh: "yes"}}}]
  istioOwnedCNIConfig: true
  cniConfFileName: 10-calico.conflist
  resourceQuotas: {enabled: true}
  seLinuxOptions: {type: spc_t}
ztunnel:
  resourceName: ztunnel-canary
  caAddress: ca.example.org:443
  peerCaCrl: {enabled: true}
  resources: {requests: {cpu: 3}, limits: {cpu: 4, memory: 1Gi}}
  resourceQuotas: {enabled: true, pods: 7000}
  dnsPolicy: None
  dnsConfig: {nameservers: [10.0.0.10]}
  volumes: [{name: extra, emptyDir: {}}]
  volumeMounts: [{name: extra, mountPath: /extra}]
`

const written = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: default}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [elsewhere]}}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec:
  gatewayClassName: underpass-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  gatewayClassName: underpass
  listeners: [{name: http, port: 80, protocol: HTTP}]
`

const home = mkdtempSync(path.join(os.tmpdir(), 'underpass-chart-'))
t.teardown(() => rmSync(home, { recursive: true }))
writeFileSync(path.join(home, 'everything.yaml'), everything)

t.test(
  'the plain manifests and the reference of values are what the chart gives',
  { skip: needsHelm },
  async t => {
    const { status, stderr } = spawnSync(process.execPath, ['scripts/manifests.ts', '--check'], {
      cwd: root,
      encoding: 'utf8'
    })
    t.equal(status, 0, stderr)
  }
)

t.test('its version is that of the programs', async t => {
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
  const [about] = parseAllYaml(readFileSync(path.join(chart, 'Chart.yaml'), 'utf8'))
  t.match(about?.value, { version, appVersion: version })
})

t.test('helm finds nothing to blame', { skip: needsHelm }, async t => {
  for (const values of [
    [],
    ['-f', path.join(home, 'everything.yaml')],
    ['--set', 'controlPlane.enabled=false']
  ]) {
    const { status, stdout } = helm('lint', '--strict', chart, ...values)
    t.equal(status, 0, `${values.join(' ')} ${stdout}`)
  }
})

t.test('a value that cannot be meant is refused by name', { skip: needsHelm }, async t => {
  const wrong: readonly (readonly [value: string, says: RegExp])[] = [
    ['ztunel.enabled=false', /'ztunel' not allowed/],
    ['ztunnel.enabeld=false', /ztunnel.*'enabeld' not allowed/],
    ['controlPlane.replicaCount=0', /controlPlane\/replicaCount/],
    ['global.imagePullPolicy=Sometimes', /global\/imagePullPolicy/],
    ['global.platform=windows', /global\/platform/],
    ['nodeAgent.chained=false', /nodeAgent\/chained/],
    ['nodeAgent.cniBinDir=opt/cni', /nodeAgent\/cniBinDir/],
    ['nodeAgent.cniConfFileName=../x', /nodeAgent\/cniConfFileName/],
    ['ztunnel.caAddress=nowhere', /ztunnel\/caAddress/],
    ['ztunnel.env.a-b=1', /ztunnel\/env/],
    ['revision=Über', /revision/],
    ['nodeAgent.resources.request.cpu=1', /nodeAgent\/resources.*'request' not allowed/]
  ]
  for (const [value, says] of wrong) {
    const { status, stderr } = render('--set', value)
    t.not(status, 0, value)
    t.match(stderr, says)
  }
})

t.test('each part can be left out, and takes all that is its own with it', { skip: needsHelm }, async t => {
  const whole = objects()
  for (const [value, component] of [
    ['controlPlane', 'control-plane'],
    ['nodeAgent', 'node-agent'],
    ['ztunnel', 'ztunnel']
  ] as const) {
    const rest = objects('--set', `${value}.enabled=false`)
    const others = whole.filter(
      ({ metadata }) => metadata.labels?.['app.kubernetes.io/component'] !== component
    )
    t.ok(others.length < whole.length, `${value} has objects`)
    t.strictSame(rest.map(nameOf), others.map(nameOf))
  }
})

t.test('values of Istio’s names arrive where the programs read them', { skip: needsHelm }, async t => {
  const given = objects('-f', path.join(home, 'everything.yaml'))
  const values = (name: string): Readonly<Record<string, string>> => {
    const { spec } = given.find(one => one.metadata.name === name && one.spec?.template !== undefined) ?? {}
    return Object.fromEntries(
      (spec?.template?.spec.containers[0]?.env ?? []).map(({ name, value }) => [name, value ?? ''])
    )
  }
  t.match(values('istiod-canary'), {
    REVISION: 'canary',
    CA_TRUSTED_NODE_ACCOUNTS: 'istio-system/ztunnel-canary',
    ISTIOD_CUSTOM_HOST: 'istiod.example.org',
    LOG_FORMAT: 'json'
  })
  t.match(values('istio-cni-node'), {
    AMBIENT_DNS_CAPTURE: 'true',
    AMBIENT_ENABLEMENT_SELECTOR: /^- podSelector/,
    CNI_CONF_NAME: '10-calico.conflist',
    EXCLUDE_NAMESPACES: 'kube-system',
    LOG_AS_JSON: 'true',
    UNDERPASS_CAPTURE_BACKEND: 'nft',
    UNDERPASS_HOST_NETNS: '/host/proc/1/ns/net'
  })
  t.match(values('ztunnel-canary'), {
    CA_ADDRESS: 'ca.example.org:443',
    XDS_ADDRESS: 'https://istiod-canary.istio-system.svc:15012',
    NETWORK: 'east',
    TRUST_DOMAIN: 'example.org',
    ISTIO_META_DNS_CAPTURE: 'true',
    CRL_PATH: '/var/run/secrets/istio-crl/ca-crl.pem'
  })
  t.match(
    given.find(({ metadata }) => metadata.name === 'istio-canary')?.data?.['mesh'],
    /trustDomain: example.org/
  )
  t.equal(
    objects('--set-string', 'global.hub=localhost:5000,global.tag=1').flatMap(containersOf)[0]?.image,
    'localhost:5000/underpass:1'
  )
  t.equal(
    objects('--set', 'ztunnel.image=a/b:c')
      .flatMap(containersOf)
      .filter(({ image }) => image === 'a/b:c').length,
    1
  )
})

t.test('nobody may do more than is known here', async t => {
  const rules = plain().flatMap(object => (object.rules ?? []).map(rule => ({ object, rule })))
  t.ok(rules.length > 10)
  for (const { object, rule } of rules) {
    const text = `${nameOf(object)}: ${rule.verbs.join(',')} ${rule.resources.join(',')}`
    t.notOk([...rule.apiGroups, ...rule.resources, ...rule.verbs].includes('*'), text)
    t.notOk(
      rule.verbs.some(verb => ['escalate', 'bind', 'impersonate', 'deletecollection'].includes(verb)),
      text
    )
    t.notOk(
      rule.resources.some(one => /^(pods|nodes)\/(?!status)|^roles|^clusterroles/.test(one)),
      text
    )
    // What is secret or steers the cluster is asked for by name; `create` knows no names, and gateways name their
    // certificates wherever they are.
    if (isForCertificates(object, rule) || isForAuthorities(object, rule)) continue
    if (rule.resources.some(one => /^(secrets|configmaps|leases|.*webhookconfigurations)$/.test(one))) {
      t.ok(rule.resourceNames !== undefined || rule.verbs.join() === 'create', text)
      if (rule.resources.includes('secrets')) t.equal(object.kind, 'Role', text)
    }
    t.notOk(rule.verbs.includes('delete'), text)
  }
  t.equal(rules.filter(({ object, rule }) => isForCertificates(object, rule)).length, 1)
  t.equal(rules.filter(({ object, rule }) => isForAuthorities(object, rule)).length, 1)
  const page = readFileSync(manifest, 'utf8')
  t.strictSame([...page.matchAll(/^rules:\n(?! {2}# )/gm)], [], 'roles say why')
})

t.test('without gateways nobody reads the Secrets of others', { skip: needsHelm }, async t => {
  const without = objects('--set', 'gateways.enabled=false')
  for (const object of without) {
    for (const rule of object.rules ?? []) t.notOk(isForCertificates(object, rule), nameOf(object))
  }
  const containers = without.flatMap(containersOf).find(({ name }) => name === 'discovery')
  t.ok(containers?.env.some(({ name, value }) => name === 'UNDERPASS_GATEWAYS' && value === 'false'))
  const neither = objects('--set', 'gateways.enabled=false,waypoints.enabled=false')
  t.notOk(
    neither.some(({ rules = [] }) => rules.some(({ resources }) => resources.includes('deployments'))),
    'nor makes workloads, without waypoints'
  )
})

t.test('every container has as little as it can do with', async t => {
  const workloads = plain().filter(({ spec }) => spec?.template !== undefined)
  t.strictSame(workloads.map(({ metadata }) => metadata.name).toSorted(), [
    'istio-cni-node',
    'istiod',
    'ztunnel'
  ])
  const page = readFileSync(path.join(root, 'docs/install.md'), 'utf8')
  for (const { metadata, spec } of workloads) {
    const pod = spec?.template?.spec as PodSpec
    t.equal(pod.securityContext.seccompProfile.type, 'RuntimeDefault', metadata.name)
    t.notOk(pod.hostPID ?? pod.hostIPC, `${metadata.name} has namespaces of its own`)
    t.match(pod.priorityClassName, /^system-(node|cluster)-critical$/)
    for (const { securityContext, resources, readinessProbe } of pod.containers) {
      t.equal(securityContext.readOnlyRootFilesystem, true, metadata.name)
      t.notOk(securityContext.privileged, metadata.name)
      t.strictSame(securityContext.capabilities.drop, ['ALL'], metadata.name)
      t.hasProps(resources?.requests ?? {}, ['cpu', 'memory'], metadata.name)
      t.ok(readinessProbe, metadata.name)
      for (const capability of securityContext.capabilities.add ?? []) {
        const row = new RegExp(`^\\| ${metadata.name} \\| \`${capability}\` \\|`, 'm')
        t.match(page, row, `docs/install.md gives the reason for ${capability} of ${metadata.name}`)
      }
    }
    for (const { hostPath } of pod.volumes) {
      if (hostPath !== undefined)
        t.ok(page.includes(`\`${hostPath.path}\``), `docs/install.md names ${hostPath.path}`)
    }
  }
  const [controlPlane] = workloads.filter(({ metadata }) => metadata.name === 'istiod')
  t.equal(controlPlane?.spec?.template?.spec.securityContext.runAsNonRoot, true)
  t.equal(controlPlane?.spec?.template?.spec.containers[0]?.securityContext.capabilities.add, undefined)
  const [ztunnel] = workloads.filter(({ metadata }) => metadata.name === 'ztunnel')
  t.equal(
    ztunnel?.spec?.template?.spec.automountServiceAccountToken,
    false,
    'ztunnel cannot ask the API server'
  )
})

t.test('at a real API server', { skip: needsHelm || needsKubeApiserver() }, async t => {
  const api = await startKubeApiserver(t)
  kubectl(api, ['create', 'namespace', 'istio-system'])

  t.test('it takes every object, with all values', async t => {
    for (const values of [[], ['-f', path.join(home, 'everything.yaml')]]) {
      const { stdout, stderr } = render(...values)
      t.equal(stderr, '')
      const said = kubectl(api, ['apply', '--server-side', '--dry-run=server', '-f', '-'], stdout)
      t.notMatch(said, /unknown field|Warning/, values.join(' '))
    }
  })

  t.test('the control plane does all its work with the permissions that it gets', async t => {
    kubectl(api, ['apply', '--server-side', '-f', '-'], definitionList())
    kubectl(api, ['apply', '--server-side', '-f', manifest])
    const token = kubectl(api, ['-n', 'istio-system', 'create', 'token', 'istiod']).trim()
    const kubeconfig = path.join(home, 'istiod.kubeconfig')
    writeFileSync(kubeconfig, readFileSync(api.kubeconfig, 'utf8').replace(api.token, token))
    kubectl(api, ['apply', '-f', '-'], written)
    kubectl(api, ['label', 'namespace', 'default', 'istio.io/use-waypoint=absent'])
    const conditions = 'jsonpath={.status.conditions[*].type}'
    const log = await runControlPlane(kubeconfig, async () => {
      const roots = kubectl(api, ['-n', 'default', 'get', 'configmap', '-o', 'name'])
      if (!roots.includes('istio-ca-root-cert')) return false
      const ofPolicy = kubectl(api, ['-n', 'default', 'get', 'authorizationpolicy', 'deny', '-o', conditions])
      const ofNamespace = kubectl(api, ['get', 'namespace', 'default', '-o', conditions])
      const made = kubectl(api, [
        '-n',
        'default',
        'get',
        'deployments,services,serviceaccounts',
        '-o',
        'name'
      ])
      const ofWaypoint = made.match(/\/waypoint$/gm)?.length === 3
      const ofGateway = made.match(/\/edge-underpass$/gm)?.length === 3
      return ofPolicy !== '' && ofNamespace !== '' && ofWaypoint && ofGateway
    })
    t.match(log, /leading: this replica writes/)
    t.notMatch(log, /forbidden|may not|permission/i)
    for (const [verb, what] of [
      ['get', 'secrets/istio-ca-secret'],
      ['get', 'secrets'],
      ['update', 'secrets'],
      ['get', 'configmaps/kube-root-ca.crt'],
      ['create', 'pods'],
      ['create', 'clusterroles.rbac.authorization.k8s.io']
    ] as const) {
      const place = ['-n', 'default', '--as', 'system:serviceaccount:istio-system:istiod']
      t.equal(kubectl(api, ['auth', 'can-i', verb, what, ...place], '', 1).trim(), 'no', `${verb} ${what}`)
    }
  })
})

function isForCertificates(object: Manifest, { resources, verbs }: Rule): boolean {
  return isOfWaypoints(object) && resources.join() === 'secrets' && verbs.join() === 'list,watch'
}

function isForAuthorities(object: Manifest, { resources, verbs }: Rule): boolean {
  return isOfWaypoints(object) && resources.join() === 'configmaps' && verbs.join() === 'list,watch'
}

function isOfWaypoints({ kind, metadata }: Manifest): boolean {
  return kind === 'ClusterRole' && metadata.name.startsWith('underpass-control-plane-waypoints')
}

/** Runs it until `done`; resolves to what it logged. */
async function runControlPlane(kubeconfig: string, done: () => Promise<boolean>): Promise<string> {
  const child = spawn(process.execPath, [path.join(root, 'controlplane/main.ts')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'] ?? '',
      KUBECONFIG: kubeconfig,
      POD_NAMESPACE: 'istio-system',
      UNDERPASS_LISTEN: '127.0.0.1',
      UNDERPASS_XDS_PORT: '0',
      UNDERPASS_MONITORING_PORT: '0',
      UNDERPASS_READY_PORT: '0',
      UNDERPASS_WEBHOOK_PORT: '0',
      TERMINATION_DRAIN_DURATION: '100ms'
    }
  })
  let log = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => (log += text.toString()))
  const ended = new Promise(resolve => child.once('exit', resolve))
  try {
    await eventually('all is written', async () => child.exitCode !== null || done())
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`)
  } catch (cause) {
    throw new Error(`the control plane did not do its work:\n${log}`, { cause })
  } finally {
    child.kill('SIGTERM')
    await ended
  }
  return log
}

function helm(...parameters: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(path.join(peers, 'helm'), parameters, {
    encoding: 'utf8',
    env: { ...process.env, HELM_CACHE_HOME: home, HELM_CONFIG_HOME: home, HELM_DATA_HOME: home }
  })
}

function render(...values: readonly string[]): ReturnType<typeof helm> {
  return helm('template', 'underpass', chart, '-n', 'istio-system', '--kube-version', '1.36.0', ...values)
}

function objects(...values: readonly string[]): readonly Manifest[] {
  const { status, stdout, stderr } = render(...values)
  if (status !== 0) throw new Error(stderr)
  return parseAllYaml(stdout).map(({ value }) => value as Manifest)
}

function plain(): readonly Manifest[] {
  return parseAllYaml(readFileSync(manifest, 'utf8')).map(({ value }) => value as Manifest)
}

function containersOf({ spec }: Manifest): readonly Container[] {
  return spec?.template?.spec.containers ?? []
}

function nameOf({ kind, metadata }: Manifest): string {
  return `${kind} ${metadata.namespace ?? ''}/${metadata.name}`
}

function kubectl(api: KubeApiserver, parameters: readonly string[], input = '', status = 0): string {
  const result = spawnSync(api.kubectl, ['--kubeconfig', api.kubeconfig, ...parameters], {
    input,
    encoding: 'utf8',
    env: { ...process.env, HOME: home },
    timeout: 60_000
  })
  if (result.status !== status) throw new Error(`kubectl ${parameters.join(' ')}: ${result.stderr}`)
  return result.stdout
}
