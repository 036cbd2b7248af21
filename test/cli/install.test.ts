/** Installing into an API server without nodes: what is brought, kept, refused, taken over and given back. */
import t from 'tap'
import { daemonSets, deployments, type DaemonSet } from '../../shared/kube/apps-api.ts'
import { configMaps, namespaces, secrets, services } from '../../shared/kube/core-api.ts'
import { customResourceDefinitions, publishedDefinitions } from '../../shared/kube/definitions.ts'
import { withoutServerFields } from '../../cli/install/changes.ts'
import { readManifest, type Manifest } from '../../cli/install/manifest.ts'
import { waitUntilReady } from '../../cli/install/wait.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { parseYaml } from '../../shared/kube/yaml.ts'
import { apiCluster, type ApiCluster } from './api-cluster.ts'
import { fakeCluster, fakePod } from './fake-cluster.ts'

const ztunnelRef = { namespace: 'istio-system', name: 'ztunnel' }

t.test('install brings definitions and objects, and once more changes nothing', async t => {
  const { client, run } = await apiCluster(t)
  const missing = ['gateways.gateway.networking.k8s.io', 'sidecars.networking.istio.io']
  for (const name of missing) await client.delete(customResourceDefinitions, { name })

  const tried = await run(['install', '--dry-run'])
  t.equal(tried.code, 0, tried.err)
  t.match(tried.out, /definitions: 2 would be created/)
  t.match(tried.out, /would be created: daemonset.apps istio-system\/ztunnel/)
  t.equal(await client.find(daemonSets, ztunnelRef), undefined, 'a dry run changes nothing')

  const first = await run(['install', '--no-wait', '--set', 'replicas=2', '--set', 'logLevel=debug'])
  t.equal(first.code, 0, first.err)
  t.match(first.out, /definitions: 2 created/)
  t.match(first.out, /^created: deployment.apps istio-system\/istiod$/m)
  for (const name of missing) t.ok(await client.find(customResourceDefinitions, { name }), name)
  const control = await client.get(deployments, { namespace: 'istio-system', name: 'istiod' })
  t.equal(control.spec?.replicas, 2)
  const ztunnel = await client.get(daemonSets, ztunnelRef)
  t.match(ztunnel.metadata.labels, { 'app.kubernetes.io/managed-by': 'underpass' })
  t.match(ztunnel.spec?.template?.spec?.containers?.[0]?.env, [])
  t.ok(
    ztunnel.spec?.template?.spec?.containers?.[0]?.env?.some(
      ({ name, value }) => name === 'RUST_LOG' && value === 'debug'
    ),
    'settings are in the objects'
  )

  const again = await run(['install', '--no-wait'])
  t.equal(again.code, 0, again.err)
  t.notMatch(again.out, /^(created|changed)/m, 'and keeps the settings of the first time')
  t.match(again.out, /definitions: 0 created/)

  const changed = await run(['install', '--no-wait', '--set', 'replicas=1'])
  t.match(changed.out, /changed: deployment.apps istio-system\/istiod \(spec\.replicas\)/)
})

t.test('a definition that others brought is never changed', async t => {
  const { client, run } = await apiCluster(t)
  const name = 'gateways.gateway.networking.k8s.io'
  await client.patch(
    customResourceDefinitions,
    { name },
    { metadata: { annotations: { 'gateway.networking.k8s.io/bundle-version': 'v1.4.0' } } },
    { kind: 'merge' }
  )
  const before = await client.get(customResourceDefinitions, { name })
  const { code, err } = await run(['install', '--no-wait'])
  t.equal(code, 0, err)
  t.match(
    err,
    /gateways\.gateway\.networking\.k8s\.io is of version v1\.4\.0, not v1\.6\.0; it is left as it is/
  )
  t.same(await client.get(customResourceDefinitions, { name }), before)
})

t.test('over another mesh it refuses, and names what is in the way', async t => {
  const cluster = await apiCluster(t)
  await istio(cluster)
  const { code, err } = await cluster.run(['install', '--no-wait'])
  t.equal(code, 1)
  t.match(
    err,
    /daemonset\.apps istio-system\/ztunnel \(ztunnel\): another mesh's ztunnel \(Helm release ztunnel\)/
  )
  t.match(err, /service istio-system\/istiod \(control-plane\)/)
  t.match(err, /--replace ztunnel\|control-plane/)
  const found = await cluster.client.find(daemonSets, { namespace: 'istio-system', name: 'istio-cni-node' })
  t.equal(found, undefined, 'nothing was brought')
})

t.test('one part is taken over and given back as it was', async t => {
  const cluster = await apiCluster(t)
  const { client, run } = cluster
  const before = await istio(cluster)

  const taken = await run(['install', '--no-wait', '--replace', 'ztunnel'])
  t.equal(taken.code, 0, taken.err)
  const ours = await client.get(daemonSets, ztunnelRef)
  t.match(ours.metadata.labels, { 'app.kubernetes.io/managed-by': 'underpass' })
  t.notMatch(ours.metadata.annotations, { 'meta.helm.sh/release-name': 'ztunnel' })
  t.same(
    ours.spec?.template?.spec?.containers?.map(({ name }) => name),
    ['istio-proxy'],
    'no container of the predecessor stays'
  )
  t.equal(
    (await client.get(services, { namespace: 'istio-system', name: 'istiod' })).metadata.uid,
    before.service,
    'other parts are not touched'
  )
  t.equal(await client.find(deployments, { namespace: 'istio-system', name: 'istiod' }), undefined)
  t.equal(
    (await client.get(secrets, { namespace: 'istio-system', name: 'istio-ca-secret' })).data?.['x'],
    'eA=='
  )

  const again = await run(['install', '--no-wait', '--replace', 'ztunnel'])
  t.equal(again.code, 0, again.err)
  t.notMatch(again.out, /replacing/, 'doing it again replaces nothing')

  const restored = await run(['install', '--restore', 'ztunnel'])
  t.equal(restored.code, 0, restored.err)
  const back = await client.get(daemonSets, ztunnelRef)
  t.same(withoutServerFields(back), before.ztunnel)
  t.equal(
    await client.find(configMaps, { namespace: 'istio-system', name: 'underpass-installation' }),
    undefined
  )
  t.match((await run(['install', '--restore', 'ztunnel'])).err, /nothing was replaced/)
})

t.test(
  'a node agent beside another ztunnel captures in the way that both know, unless told otherwise',
  async t => {
    const cluster = await apiCluster(t)
    await istio(cluster)
    const modeAfter = async (...words: string[]): Promise<string | undefined> => {
      const { code, err } = await cluster.run(['install', '--no-wait', '--replace', 'node-agent', ...words])
      t.equal(code, 0, err)
      const ref = { namespace: 'istio-system', name: 'istio-cni-node' }
      const [container] = (await cluster.client.get(daemonSets, ref)).spec?.template?.spec?.containers ?? []
      return container?.env?.find(({ name }) => name === 'UNDERPASS_CAPTURE_MODE')?.value
    }
    t.equal(await modeAfter(), 'redirect')
    t.equal(await modeAfter('--set', 'captureMode=auto'), 'auto')
  }
)

t.test('the control plane gets a Service without what its predecessor selected', async t => {
  const cluster = await apiCluster(t)
  const { client, run } = cluster
  await istio(cluster)
  const ref = { namespace: 'istio-system', name: 'istiod' }
  const configuration = { namespace: 'istio-system', name: 'istio' }
  await client.create(configMaps, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: configuration,
    data: { mesh: 'trustDomain: td' }
  })
  const before = withoutServerFields(await client.get(services, ref))
  const { code, err } = await run(['install', '--no-wait', '--replace', 'control-plane'])
  t.equal(code, 0, err)
  const service = await client.get(services, ref)
  t.equal(service.spec?.clusterIP, before.spec?.clusterIP, 'agents know its address')
  t.equal((await client.get(configMaps, configuration)).data?.['mesh'], 'trustDomain: td', 'is read on')
  t.notOk(service.spec?.selector?.['istio.io/rev'], JSON.stringify(service.spec?.selector))
  t.equal((await run(['install', '--restore', 'control-plane'])).code, 0)
  t.same(withoutServerFields(await client.get(services, ref)), before)
  t.equal(await client.find(deployments, ref), undefined, 'what was brought is gone')
})

t.test('upgrade keeps settings, removes what is no more, and refuses a leap', async t => {
  const { client, run } = await apiCluster(t)
  t.match((await run(['upgrade'])).err, /nothing was installed/)
  await run(['install', '--no-wait', '--set', 'replicas=2'])
  const ref = { namespace: 'istio-system', name: 'underpass-installation' }
  await client.create(services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      namespace: 'istio-system',
      name: 'obsolete',
      labels: { 'app.kubernetes.io/managed-by': 'underpass' }
    },
    spec: { ports: [{ port: 1 }] }
  })
  await client.patch(configMaps, ref, { data: { version: '0.0.9' } }, { kind: 'merge' })
  const { code, out, err } = await run(['upgrade', '--no-wait'])
  t.equal(code, 0, err)
  t.match(out, /0\.0\.9 -> 0\.1\.0/)
  t.match(out, /removed: service istio-system\/obsolete/)
  const control = await client.get(deployments, { namespace: 'istio-system', name: 'istiod' })
  t.equal(control.spec?.replicas, 2)
  await client.patch(configMaps, ref, { data: { version: '1.4.0' } }, { kind: 'merge' })
  t.match((await run(['upgrade', '--no-wait'])).err, /more than one minor version/)
  t.match((await run(['install', '--no-wait'])).err, /underpass upgrade/)
})

t.test('uninstall removes what was brought, and keeps definitions and the authority', async t => {
  const { client, run } = await apiCluster(t)
  await run(['install', '--no-wait'])
  await client.create(secrets, authority)
  const tried = await run(['uninstall', '--dry-run'])
  t.match(tried.out, /would be removed: daemonset.apps istio-system\/ztunnel/)
  const { code, out, err } = await run(['uninstall'])
  t.equal(code, 0, err)
  t.match(
    out,
    /removed: daemonset\.apps istio-system\/istio-cni-node[^]*removed: daemonset\.apps istio-system\/ztunnel/
  )
  t.same((await client.list(daemonSets, {})).items, [])
  t.same((await client.list(deployments, {})).items, [])
  t.ok(await client.find(namespaces, { name: 'istio-system' }))
  t.ok(await client.find(secrets, { namespace: 'istio-system', name: 'istio-ca-secret' }))
  t.equal((await client.list(customResourceDefinitions)).items.length, publishedDefinitions().length)
  t.match((await run(['uninstall'])).err, /nothing was installed/)
})

t.test('--purge takes the authority too', async t => {
  const { client, run } = await apiCluster(t)
  await run(['install', '--no-wait'])
  await client.create(secrets, authority)
  const roots = { namespace: 'default', name: 'istio-ca-root-cert' }
  await client.create(configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: roots })
  t.equal((await run(['uninstall', '--purge'])).code, 0)
  t.equal(await client.find(configMaps, roots), undefined)
  t.equal(await client.find(secrets, { namespace: 'istio-system', name: 'istio-ca-secret' }), undefined)
})

t.test('--print-rbac covers every kind of the manifest', async t => {
  const { run } = await apiCluster(t)
  const role = parseYaml((await run(['install', '--print-rbac'])).out) as {
    rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[]
  }
  for (const { apiVersion, kind } of readManifest()) {
    const group = apiVersion.includes('/') ? apiVersion.split('/')[0] : ''
    const stem = kind.toLowerCase().replace(/y$/, '')
    t.ok(
      role.rules.some(
        ({ apiGroups, resources, verbs }) =>
          apiGroups.includes(group ?? '') &&
          resources.some(resource => resource.startsWith(stem)) &&
          verbs.includes('patch')
      ),
      kind
    )
  }
})

t.test('settings that are not known are refused before anything is asked', async t => {
  const { run } = await apiCluster(t)
  const rows = [
    { words: ['--set', 'colour=red'], says: /no setting "colour" .*Helm chart/s },
    { words: ['--set', 'replicas'], says: /expected NAME=VALUE/ },
    { words: ['--set', 'replicas=many'], says: /replicas="many": expected a number from 1 to 9/ },
    { words: ['--values', '/does/not/exist'], says: /--values \/does\/not\/exist/ },
    { words: ['--replace', 'ztunnel', '--restore', 'ztunnel'], says: /exclude each other/ },
    { words: ['--ready-timeout', 'soon', '--dry-run'], says: /--ready-timeout "soon"/ }
  ]
  for (const { words, says } of rows) {
    const { code, err } = await run(['install', ...words])
    t.equal(code, 1, words.join(' '))
    t.match(err, says)
  }
})

t.test('what is not ready in time is named, with its last words', async t => {
  const object = (apiVersion: string, kind: string, name: string, fields: object) =>
    ({
      apiVersion,
      kind,
      metadata: { namespace: 'istio-system', name, generation: 1 },
      ...fields
    }) as Manifest
  const set = object('apps/v1', 'DaemonSet', 'ztunnel', {
    spec: { selector: { matchLabels: { app: 'ztunnel' } } },
    status: { observedGeneration: 1, desiredNumberScheduled: 1 }
  })
  const refused = object('apps/v1', 'DaemonSet', 'istio-cni-node', {
    spec: { selector: { matchLabels: { 'k8s-app': 'istio-cni-node' } } }
  })
  const forbidden = object('v1', 'Event', 'e', { reason: 'FailedCreate', message: 'violates PodSecurity' })
  const containerStatuses = [
    { name: 'istio-proxy', ready: false, restartCount: 2, state: { waiting: { reason: 'CrashLoopBackOff' } } }
  ]
  const crashing = fakePod('ztunnel-x', 'node-1', { app: 'ztunnel' })
  const { kubeconfig } = await fakeCluster(t, {
    pods: [{ pod: { ...crashing, status: { phase: 'Running', containerStatuses } } }],
    objects: { daemonsets: [set, refused], events: [forbidden] },
    logs: { 'ztunnel-x': 'XDS_ROOT_CA: no such file\n' }
  })
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  t.teardown(() => client.close())
  const said: string[] = []
  const late = await waitUntilReady(client, [set, refused], {
    say: line => said.push(line),
    limit: () => AbortSignal.timeout(10_000),
    patienceMs: 1
  })
  t.same(late, said, 'what is missing at the end was said before')
  t.match(late.join('\n'), /ztunnel: 0 of 1 ready/)
  t.match(
    late.join('\n'),
    /ztunnel-x on node-1 keeps ending .*2 restarts.*last words: XDS_ROOT_CA: no such file/
  )
  t.match(late.join('\n'), /istio-cni-node: 0 of 0 ready\n {2}FailedCreate: violates PodSecurity/)
})

const authority = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { namespace: 'istio-system', name: 'istio-ca-secret' },
  data: { x: 'eA==' }
}

/** A ztunnel and a Service as Istio's charts leave them. */
async function istio({ client }: ApiCluster): Promise<{ ztunnel: DaemonSet; service: string | undefined }> {
  await client.create(namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'istio-system' }
  })
  await client.create(secrets, authority)
  const ztunnel = await client.create(daemonSets, {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: {
      ...ztunnelRef,
      labels: { app: 'ztunnel', 'app.kubernetes.io/managed-by': 'Helm' },
      annotations: { 'meta.helm.sh/release-name': 'ztunnel' }
    },
    spec: {
      selector: { matchLabels: { app: 'ztunnel' } },
      template: {
        metadata: { labels: { app: 'ztunnel' } },
        spec: {
          containers: [
            { name: 'istio-proxy', image: 'istio/ztunnel:1.32' },
            { name: 'extra', image: 'extra:1' }
          ]
        }
      }
    }
  })
  const service = await client.create(services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'istio-system', name: 'istiod', labels: { app: 'istiod' } },
    spec: {
      selector: { app: 'istiod', 'istio.io/rev': 'default' },
      ports: [
        { name: 'grpc-xds', port: 15010 },
        { name: 'https-dns', port: 15012 }
      ]
    }
  })
  return { ztunnel: withoutServerFields(ztunnel), service: service.metadata.uid }
}
