import t from 'tap'
import { inspect } from 'node:util'
import { ip, type Ip } from '../../../shared/net/address.ts'
import {
  policyKey,
  serviceKey,
  type Policy,
  type Service,
  type Workload
} from '../../../shared/mesh/model.ts'
import { openSharedMesh } from '../../../shared/mesh/shared-view.ts'
import { MeshStore } from '../../../shared/mesh/store.ts'
import type { MeshView } from '../../../shared/mesh/view.ts'
import {
  addresses,
  cidr,
  endpointOf,
  gatewayTo,
  service,
  storeOf,
  vips,
  workload
} from '../../support/mesh.ts'
import { PlainView } from '../../support/plain-view.ts'
import { policy, policyOf } from '../../support/policies.ts'

t.test('every field survives the way into shared memory and out of it', async t => {
  const pod: Workload = workload({
    name: 'ünïcode-日本',
    addresses: addresses('10.0.0.1', '2001:db8::1'),
    hostname: 'a.example',
    network: 'net1',
    networkMode: 'HostNetwork',
    protocol: 'TCP',
    nativeTunnel: true,
    trustDomain: 'td',
    waypoint: gatewayTo('shop/waypoint.shop:15008'),
    networkGateway: gatewayTo('net2/1.2.3.4:15009', 'address'),
    applicationTunnel: { protocol: 'PROXY', port: 15088 },
    workloadType: 'cronjob',
    clusterId: 'c1',
    locality: { region: 'r', zone: 'z', subzone: 's' },
    services: new Map([
      [
        'shop/a',
        new Map([
          [80, 8080],
          [443, 0]
        ])
      ],
      ['shop/b', new Map()]
    ]),
    authorizationPolicies: ['shop/p'],
    status: 'Unhealthy',
    capacity: 7,
    labels: new Map([['version', 'v2']])
  })
  const web: Service = service({
    name: 'web',
    vips: vips('net1/10.1.0.1', '/2001:db8::2'),
    cidrVips: [{ network: '', cidr: cidr('10.0.0.0/8') }],
    ports: new Map([[80, 0]]),
    subjectAltNames: ['spiffe://a/ns/b/sa/c', 'x'],
    waypoint: gatewayTo('shop/waypoint.shop:15008'),
    weightedWaypoints: [{ destination: gatewayTo('/1.2.3.4:1', 'address'), weight: 3 }],
    loadBalancer: { mode: 'Failover', routingPreferences: ['Network', 'Zone'], healthPolicy: 'AllowAll' },
    ipFamilies: 'Dual',
    canonical: false,
    visibility: 'Namespace',
    traffic: { clientIpAffinitySeconds: 10 }
  })
  const rule: Policy = policyOf(
    {
      principals: [{ kind: 'presence' }, { kind: 'suffix', value: 'x' }],
      serviceAccounts: [{ namespace: 'a', serviceAccount: 'b' }],
      notSourceIps: [cidr('10.0.0.0/8'), cidr('2001:db8::/33')],
      destinationPorts: [80]
    },
    { dryRun: true, action: 'Deny' }
  )
  const store = storeOf({ workloads: [pod], services: [web], policies: [rule] })
  const reader = openSharedMesh(structuredClone(store.shared()))
  t.strictSame([...store.view().workloads()], [pod])
  t.strictSame([...store.view().services()], [web])
  t.strictSame([...store.view().policies()], [rule])
  t.strictSame(
    reader.read(view => [
      view.workloadByUid(pod.uid),
      view.service('shop/web.shop.svc.cluster.local'),
      view.policy('shop/p')
    ]),
    [pod, web, rule]
  )
})

t.test('who is meant when several claim an address', async t => {
  const ips = addresses('10.0.0.1')
  const podHbone = workload({ name: 'pod-hbone', addresses: ips })
  const podTcp = workload({ name: 'pod-tcp', addresses: ips, protocol: 'TCP' })
  const entryHbone = workload({ name: 'entry-hbone', uid: 'c/WorkloadEntry/a', addresses: ips })
  const entryTcp = workload({ name: 'entry-tcp', uid: 'c/WorkloadEntry/b', addresses: ips, protocol: 'TCP' })
  const host = workload({ name: 'host', addresses: ips, networkMode: 'HostNetwork' })
  const other = workload({ name: 'other', addresses: ips, network: 'net2' })
  const newer = workload({ name: 'newer', addresses: ips })
  const table = [
    { name: 'a pod with HBONE before a pod without', given: [podTcp, podHbone], winner: 'pod-hbone' },
    { name: 'in any order', given: [podHbone, podTcp], winner: 'pod-hbone' },
    { name: 'a pod without HBONE before another thing with', given: [podTcp, entryHbone], winner: 'pod-tcp' },
    { name: 'HBONE before the rest', given: [entryTcp, entryHbone], winner: 'entry-hbone' },
    { name: 'of two equals the newer', given: [podHbone, newer], winner: 'newer' },
    { name: 'host network is not found by address', given: [host], winner: undefined },
    { name: 'nor in its way', given: [entryTcp, host], winner: 'entry-tcp' },
    { name: 'another network is another address', given: [other], winner: undefined }
  ]
  for (const { name, given, winner } of table) {
    const view = storeOf({ workloads: given }).view()
    t.equal(view.workloadByAddress('', ip('10.0.0.1'))?.name, winner, name)
  }
})

t.test('who is meant when several services claim an address or name', async t => {
  const claims = (parts: Partial<Service> & { name: string }): Service =>
    service({ vips: vips('/10.1.0.1'), hostname: 'a.example', ...parts })
  const block = (name: string, text: string, parts: Partial<Service> = {}): Service =>
    service({ name, hostname: name, cidrVips: [{ network: '', cidr: cidr(text) }], ...parts })
  const own = claims({ name: 'own', canonical: false })
  const canonical = claims({ name: 'canonical', namespace: 'other' })
  const first = claims({ name: 'first', namespace: 'x', canonical: false })
  const second = claims({ name: 'second', namespace: 'y', canonical: false })
  const hidden = claims({ name: 'hidden', namespace: 'x', visibility: 'Namespace' })
  const table = [
    {
      name: 'the client’s own namespace before a Kubernetes Service',
      given: [canonical, own],
      winner: 'own'
    },
    { name: 'a Kubernetes Service before a ServiceEntry', given: [first, canonical], winner: 'canonical' },
    { name: 'of two equals the first', given: [first, second], winner: 'first' },
    { name: 'what is not visible is not there', given: [hidden], winner: undefined },
    { name: 'nor in the way', given: [hidden, first], winner: 'first' },
    {
      name: 'its own namespace sees it',
      given: [claims({ name: 'mine', visibility: 'Namespace' })],
      winner: 'mine'
    }
  ]
  for (const { name, given, winner } of table) {
    const view = storeOf({ services: given }).view()
    t.equal(view.serviceByAddress('', ip('10.1.0.1'), 'shop')?.name, winner, `address: ${name}`)
    t.equal(view.serviceByHostname('a.example', 'shop')?.name, winner, `name: ${name}`)
  }
  const names = storeOf({ services: [first, second] }).view()
  t.equal(
    names.serviceByHostname('a.example', 'shop', 'y')?.name,
    'second',
    'a preferred namespace before the first'
  )
  const both = storeOf({ services: [canonical, first] }).view()
  t.equal(
    both.serviceByHostname('a.example', 'shop', 'x')?.name,
    'canonical',
    'but not before a Kubernetes Service'
  )

  const blocks = [
    { name: 'a block takes what it contains', given: [block('a', '10.0.0.0/8')], winner: 'a' },
    { name: 'the longest prefix', given: [block('a', '10.0.0.0/8'), block('b', '10.1.0.0/16')], winner: 'b' },
    {
      name: 'the own namespace before a longer prefix',
      given: [block('a', '10.1.0.0/24', { namespace: 'x' }), block('b', '10.0.0.0/8')],
      winner: 'b'
    },
    {
      name: 'canonical for equal prefixes',
      given: [
        block('a', '10.0.0.0/8', { canonical: false, namespace: 'x' }),
        block('b', '10.0.0.0/8', { namespace: 'y' })
      ],
      winner: 'b'
    },
    { name: 'the whole family', given: [block('a', '0.0.0.0/0')], winner: 'a' },
    { name: 'not the other family', given: [block('a', '::/0')], winner: undefined },
    {
      name: 'an invisible exact address does not hide the block',
      given: [hidden, block('a', '10.0.0.0/8')],
      winner: 'a'
    }
  ]
  for (const { name, given, winner } of blocks) {
    t.equal(
      storeOf({ services: given }).view().serviceByAddress('', ip('10.1.0.1'), 'shop')?.name,
      winner,
      name
    )
  }
  const exactFirst = storeOf({ services: [block('a', '10.1.0.0/31', {}), first] }).view()
  t.equal(
    exactFirst.serviceByAddress('', ip('10.1.0.1'), 'shop')?.name,
    'first',
    'an exact address comes before any block'
  )
  const v6 = storeOf({ services: [block('six', '2001:db8::/32')] }).view()
  t.equal(v6.serviceByAddress('', ip('2001:db8::99'), 'shop')?.name, 'six')
})

t.test(
  'endpoints wait for their service, leave with their workload, and show what health allows',
  async t => {
    const key = serviceKey(service({ name: 'web' }))
    const store = new MeshStore()
    const pods = ['a', 'b', 'c'].map(name =>
      workload({
        name,
        services: endpointOf('web', [[80, 9090]]),
        status: name === 'c' ? 'Unhealthy' : 'Healthy'
      })
    )
    for (const pod of pods) store.apply([{ kind: 'workload', workload: pod }])
    t.strictSame(store.view().endpoints(key), [])
    t.equal([...store.view().stagedEndpoints()].length, 1)
    store.apply([{ kind: 'service', service: service({ name: 'web' }) }])
    t.strictSame(store.view().endpoints(key), [
      { workloadUid: pods[0]?.uid, ports: new Map([[80, 9090]]), status: 'Healthy' },
      { workloadUid: pods[1]?.uid, ports: new Map([[80, 9090]]), status: 'Healthy' }
    ])
    t.strictSame([...store.view().stagedEndpoints()], [])
    const allowAll = { mode: 'Standard', routingPreferences: [], healthPolicy: 'AllowAll' } as const
    store.apply([{ kind: 'service', service: service({ name: 'web', loadBalancer: allowAll }) }])
    t.strictSame(
      store
        .view()
        .endpoints(key)
        .map(({ status }) => status),
      ['Healthy', 'Healthy', 'Unhealthy']
    )
    store.apply([{ kind: 'address-removed', name: pods[0]?.uid ?? '' }])
    t.strictSame(
      store
        .view()
        .endpoints(key)
        .map(({ workloadUid }) => workloadUid)
        .toSorted(),
      [pods[1]?.uid, pods[2]?.uid]
    )
    store.apply([{ kind: 'workload', workload: workload({ name: 'b' }) }])
    t.strictSame(store.view().endpoints(key).length, 1, 'a workload that left the service')
    t.notOk(store.view().hasEndpoint(key, pods[1]?.uid ?? ''))
    t.ok(store.view().hasEndpoint(key, pods[2]?.uid ?? ''))
    store.apply([{ kind: 'address-removed', name: key }])
    t.strictSame(store.view().endpoints(key), [])
    t.equal(store.view().service(key), undefined)
  }
)

t.test(
  'policies: global, of the namespace, listed; the list is the same object until a policy changes',
  async t => {
    const store = storeOf({
      policies: [
        policy({ name: 'everywhere', namespace: 'istio-system', scope: 'Global' }),
        policy({ name: 'here' }),
        policy({ name: 'elsewhere', namespace: 'other' }),
        policy({ name: 'listed', scope: 'WorkloadSelector' }),
        policy({ name: 'not-listed', scope: 'WorkloadSelector' })
      ],
      workloads: [
        workload({ name: 'web', authorizationPolicies: ['shop/listed', 'shop/unknown', 'shop/here'] })
      ]
    })
    const web = store.view().workloadByName('shop', 'web', 'web') as Workload
    const found = store.view().policiesOf(web)
    t.strictSame(found.map(policyKey), ['istio-system/everywhere', 'shop/here', 'shop/listed'])
    t.equal(store.view().policiesOf(web), found)
    t.ok(store.apply([{ kind: 'authorization-removed', name: 'istio-system/everywhere' }]).policiesChanged)
    t.strictSame(store.view().policiesOf(web).map(policyKey), ['shop/here', 'shop/listed'])
    t.notOk(store.apply([{ kind: 'authorization-removed', name: 'shop/nothing' }]).policiesChanged)
    t.notOk(
      store.apply([{ kind: 'policy', policy: policy({ name: 'here' }) }]).policiesChanged,
      'the same again'
    )
    t.ok(
      store.apply([{ kind: 'policy', policy: policy({ name: 'here', scope: 'WorkloadSelector' }) }])
        .policiesChanged
    )
    t.strictSame(store.view().policiesOf(workload({ name: 'x' })), [], 'it moved out of the namespace’s list')
  }
)

t.test('the listener hears of workloads that come, change and go, not of repetitions', async t => {
  const heard: string[] = []
  const store = new MeshStore({
    onWorkload: (previous, current) =>
      heard.push(`${previous?.canonicalRevision} ${current?.canonicalRevision}`)
  })
  const web = workload({ name: 'web' })
  store.apply([{ kind: 'workload', workload: web }])
  store.apply([{ kind: 'workload', workload: web }])
  store.apply([{ kind: 'workload', workload: { ...web, canonicalRevision: 'v2' } }])
  store.apply([{ kind: 'address-removed', name: web.uid }])
  store.apply([{ kind: 'address-removed', name: web.uid }])
  t.strictSame(heard, ['undefined v1', 'v1 v2', 'v2 undefined'])
})

t.test('a lookup gives the same object until the resource changes', async t => {
  const store = storeOf({ workloads: [workload({ name: 'web' })], services: [service({ name: 'web' })] })
  const view = store.view()
  const web = view.workloadByUid('Kubernetes//Pod/shop/web')
  t.equal(view.workloadByName('shop', 'web', 'web'), web)
  store.apply([{ kind: 'workload', workload: workload({ name: 'other' }) }])
  t.equal(view.workloadByUid('Kubernetes//Pod/shop/web'), web)
  store.apply([{ kind: 'workload', workload: workload({ name: 'web', capacity: 3 }) }])
  t.equal(view.workloadByUid('Kubernetes//Pod/shop/web')?.capacity, 3)
})

t.test(
  '4,000 random changes: every lookup agrees with the obvious implementation, on both kinds of view',
  async t => {
    let seed = Number(process.env['UNDERPASS_SEED'] ?? 7)
    t.comment(`UNDERPASS_SEED=${seed}`)
    const random = (limit: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff
      return (seed >>> 8) % limit
    }
    const any = <T>(values: readonly T[]): T => values[random(values.length)] as T
    const namespaces = ['shop', 'x', 'y']
    const ipPool = Array.from({ length: 30 }, (_, index) =>
      ip(index % 5 === 0 ? `2001:db8::${index + 1}` : `10.0.${index % 2}.${index}`)
    )
    const some = <T>(values: readonly T[], chance: number): T[] => values.filter(() => random(chance) === 0)
    const hosts = ['a.example', 'b.example', 'c.example', 'd.example']
    const serviceNames = namespaces.flatMap(namespace => hosts.map(host => `${namespace}/${host}`))
    const store = new MeshStore()
    const plain = new PlainView()
    const reader = openSharedMesh(store.shared())

    const randomWorkload = (): Workload => {
      const name = `w${random(60)}`
      return workload({
        name,
        namespace: any(namespaces),
        uid: random(3) === 0 ? `entry/${name}` : `Kubernetes//Pod/all/${name}`,
        addresses: some(ipPool, 12),
        network: any(['', '', 'net2']),
        networkMode: any(['Standard', 'Standard', 'HostNetwork']),
        protocol: any(['HBONE', 'TCP']),
        hostname: any(['', 'h1', 'h2']),
        node: any(['n1', 'n2', 'n3']),
        locality: { region: any(['', 'r1', 'r2']), zone: '', subzone: '' },
        services: new Map(
          some(serviceNames, 5).map(key => [
            key,
            new Map(
              some(
                [
                  [80, 8080],
                  [443, 8443],
                  [1, 2]
                ] as const,
                2
              )
            )
          ])
        ),
        authorizationPolicies: some(['shop/p1', 'x/p2', 'y/p3'], 3),
        status: any(['Healthy', 'Healthy', 'Unhealthy'])
      })
    }
    const randomService = (): Service =>
      service({
        name: 'n',
        namespace: any(namespaces),
        hostname: any(hosts),
        vips: some(ipPool, 10).map(ip => ({ network: any(['', 'net2']), ip })),
        cidrVips: some(['10.0.0.0/24', '10.0.0.0/16', '0.0.0.0/0', '2001:db8::/64'], 6).map(text => ({
          network: '',
          cidr: cidr(text)
        })),
        canonical: random(2) === 0,
        visibility: any(['Public', 'Public', 'Namespace']),
        ingressUsesWaypoint: random(2) === 0,
        loadBalancer: any([
          undefined,
          { mode: 'Standard', routingPreferences: [], healthPolicy: 'AllowAll' }
        ] as const)
      })
    const randomPolicy = (): Policy =>
      policy({
        name: `p${random(6)}`,
        namespace: any(namespaces),
        scope: any(['Global', 'Namespace', 'WorkloadSelector']),
        action: any(['Allow', 'Deny'])
      })
    const change = (): void => {
      switch (random(8)) {
        case 0: {
          const uid = any([...plain.workloads.keys(), 'nobody'])
          plain.workloads.delete(uid)
          return void store.apply([{ kind: 'address-removed', name: uid }])
        }
        case 1: {
          const key = any([...plain.services.keys(), 'no/body'])
          if (random(3) > 0) return
          plain.services.delete(key)
          return void store.apply([{ kind: 'address-removed', name: key }])
        }
        case 2: {
          const service = randomService()
          plain.putService(service)
          return void store.apply([{ kind: 'service', service }])
        }
        case 3: {
          const made = randomPolicy()
          plain.policies.set(policyKey(made), made)
          return void store.apply([{ kind: 'policy', policy: made }])
        }
        case 4: {
          const key = any([...plain.policies.keys(), 'no/body'])
          plain.policies.delete(key)
          return void store.apply([{ kind: 'authorization-removed', name: key }])
        }
        default: {
          const made = randomWorkload()
          plain.workloads.set(made.uid, made)
          return void store.apply([{ kind: 'workload', workload: made }])
        }
      }
    }
    const differences: string[] = []
    const compare = (view: MeshView): void => {
      const check = (what: string, found: unknown, wanted: unknown): void => {
        const [a, b] = [found, wanted].map(value =>
          inspect(value, { depth: 9, sorted: true, breakLength: Infinity })
        )
        if (a !== b) differences.push(`${what}: ${a} instead of ${b}`)
      }
      for (const network of ['', 'net2']) {
        const address: Ip = any(ipPool)
        const client = any(namespaces)
        check(
          `workload at ${network}/${address}`,
          view.workloadByAddress(network, address)?.uid,
          plain.workloadByAddress(network, address)?.uid
        )
        const found = view.serviceByAddress(network, address, client)
        const wanted = plain.serviceByAddress(network, address, client)
        check(
          `service at ${network}/${address} for ${client}`,
          found && serviceKey(found),
          wanted && serviceKey(wanted)
        )
      }
      const host = any(hosts)
      check(
        `service ${host}`,
        view.serviceByHostname(host, 'x')?.namespace,
        plain.serviceByHostname(host, 'x')?.namespace
      )
      const key = any(serviceNames)
      const byUid = (list: readonly { workloadUid: string }[]): unknown =>
        list.toSorted((a, b) => (a.workloadUid < b.workloadUid ? -1 : 1))
      check(`endpoints of ${key}`, byUid(view.endpoints(key)), byUid(plain.endpoints(key)))
      const uid = any([...plain.workloads.keys(), 'nobody'])
      check(`workload ${uid}`, view.workloadByUid(uid), plain.workloads.get(uid))
      const held = plain.workloads.get(uid)
      if (held !== undefined)
        check(`policies of ${uid}`, view.policiesOf(held).map(policyKey).toSorted(), plain.policiesOf(held))
    }
    for (let round = 0; round < 4000; round += 1) {
      change()
      compare(store.view())
      reader.read(compare)
    }
    t.strictSame(differences.slice(0, 5), [])
    t.strictSame(
      [...store.view().workloads()].map(({ uid }) => uid).toSorted(),
      [...plain.workloads.keys()].toSorted()
    )
    t.strictSame(
      [...store.view().services()].map(serviceKey).toSorted(),
      [...plain.services.keys()].toSorted()
    )
  }
)
