/** What a proxy answers on 15008, status by status, and what its policies say while they only try out. */
import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { openHbone } from '../support/hbone-peer.ts'
import {
  CLIENT_IDENTITY,
  localMesh,
  localPolicy,
  SERVER,
  SERVER_HOST,
  SERVER_IDENTITY,
  SERVER_PORT,
  VIP,
  type LocalMeshWishes
} from '../support/local-mesh.ts'
import {
  at,
  exchange,
  needsRoot,
  serve,
  startProxy,
  twoNodes,
  type Proxy,
  type Teardown,
  type TwoNodes
} from '../support/two-nodes.ts'

t.setTimeout(240_000)
const skip = needsRoot()

const answers: readonly {
  readonly name: string
  readonly authority: string
  readonly status: number
  readonly says: RegExp
  /** `response_flags`; undefined where nothing is counted. */
  readonly flag?: string
}[] = [
  {
    name: 'no address',
    authority: 'nonsense',
    status: 400,
    says: /no valid authority pseudo header: \\"nonsense\\"/
  },
  {
    name: 'no port',
    authority: '10.77.0.2',
    status: 400,
    says: /no valid authority pseudo header: \\"10\.77\.0\.2\\"/
  },
  {
    name: 'another pod',
    authority: '10.77.0.9:8080',
    status: 400,
    says: /ip mismatch: 10\.77\.0\.2 != 10\.77\.0\.9/
  },
  {
    name: 'its service’s VIP',
    authority: `${VIP}:80`,
    status: 400,
    says: /ip mismatch: 10\.77\.0\.2 != 10\.96\.0\.10/
  },
  {
    name: 'a host that nobody knows',
    authority: 'a.example:80',
    status: 503,
    says: /no service or workload for hostname: a\.example/
  },
  {
    name: 'a port that its service does not have',
    authority: `${SERVER_HOST}:81`,
    status: 503,
    says: new RegExp(`requested service ${SERVER_HOST}:81 found, but cannot resolve port`)
  },
  {
    name: 'a proxy’s own port',
    authority: '10.77.0.2:15001',
    status: 503,
    says: /attempted recursive call to ourselves/
  },
  {
    name: 'what a policy forbids',
    authority: '10.77.0.2:9001',
    status: 401,
    says: /explicitly denied by: shop\/no-9001/,
    flag: 'DENY'
  },
  {
    name: 'nobody listens',
    authority: '10.77.0.2:5999',
    status: 503,
    says: /connection failed: 10\.77\.0\.2:5999/,
    flag: 'CONNECT'
  }
]

t.test(
  'each refusal has its status, its reason in the log, and counts where it should',
  { skip },
  async t => {
    const nodes = await world(t, { policies: [localPolicy('no-9001', 'Deny', { destinationPorts: [9001] })] })
    for (const { name, authority, status, says } of answers) {
      await t.rejects(open(t, nodes, authority), { message: `http status: ${status}` }, name)
      const line = await nodes.server.logged(says)
      t.match(line, /\taccess\t.*direction="inbound"/)
    }
    const { body } = await nodes.server.ask(15020, '/metrics')
    t.strictSame(
      samples(body, 'istio_tcp_connections_failed_total')
        .map(({ labels }) => labels['response_flags'] ?? '')
        .toSorted(),
      answers.flatMap(({ flag }) => flag ?? []).toSorted()
    )
  }
)

t.test('a host name leads to the port of this endpoint, and names the service', { skip }, async t => {
  const nodes = await world(t)
  await serve(t, nodes.b, socket => socket.pipe(socket), { port: SERVER_PORT })
  const { stream } = await open(t, nodes, `${SERVER_HOST}:80`)
  t.equal(String(await exchange(stream, Buffer.from('by name'))), 'by name')
  await nodes.server.logged(/connection complete/)
  t.match(accessLines(nodes.server.log)[0]?.fields, {
    'dst.hbone_addr': `${SERVER_HOST}:80`,
    'dst.service': SERVER_HOST
  })
})

t.test(
  'policies on trial only write to the log; those that nobody sent are named once',
  { skip },
  async t => {
    const client = { principals: [{ Exact: 'cluster.local/ns/default/sa/client' }] }
    const nobody = { namespaces: [{ Exact: 'nobody' }] }
    const nodes = await world(
      t,
      {
        server: { authorizationPolicies: ['shop/selected', 'shop/lost'] },
        policies: [
          localPolicy('try-deny', 'Deny', client, { dryRun: true }),
          localPolicy('try-allow', 'Allow', nobody, { dryRun: true }),
          localPolicy(
            'everywhere',
            'Deny',
            { destinationPorts: [9001] },
            { namespace: 'root', scope: 'Global' }
          ),
          localPolicy('elsewhere', 'Deny', client, { namespace: 'other' }),
          localPolicy('not-selected', 'Deny', client, { scope: 'WorkloadSelector' }),
          localPolicy('selected', 'Deny', { destinationPorts: [9002] }, { scope: 'WorkloadSelector' })
        ]
      },
      { AUTHZ_POLICY_INFO_LOGGING: 'true' }
    )
    await serve(t, nodes.b, socket => socket.pipe(socket), { port: SERVER_PORT })
    for (const count of [1, 2]) {
      const { stream } = await open(t, nodes, `${nodes.b.v4}:${SERVER_PORT}`)
      t.equal(String(await exchange(stream, Buffer.from('passes'))), 'passes', `connection ${count}`)
    }
    await nodes.server.logged(/\tinfo\t.*dry-run: deny policy match: shop\/try-deny/)
    await nodes.server.logged(/\tinfo\t.*dry-run: no allow policies match/)
    await nodes.server.logged(/\tinfo\t.*allow: no allow policies/)
    for (const [port, policy] of [
      [9001, 'root/everywhere'],
      [9002, 'shop/selected']
    ] as const) {
      await t.rejects(open(t, nodes, `${nodes.b.v4}:${port}`), { message: 'http status: 401' })
      await nodes.server.logged(new RegExp(`\tinfo\t.*deny: explicitly denied by: ${policy}`))
    }
    t.equal(nodes.server.log.filter(line => /skipping unknown policy.*shop\/lost/.test(line)).length, 1)
  }
)

function open(t: Teardown, { a, b }: TwoNodes, authority: string): ReturnType<typeof openHbone> {
  const [identity, expect] = [CLIENT_IDENTITY, SERVER_IDENTITY]
  return openHbone(t, a, { to: at(ip(b.v4), 15_008), identity, expect, authority })
}

async function world(
  t: Teardown,
  wishes: LocalMeshWishes = {},
  env: Record<string, string> = {}
): Promise<TwoNodes & { readonly server: Proxy }> {
  const nodes = await twoNodes(t)
  const localConfig = localMesh(nodes, wishes)
  const server = await startProxy(t, nodes.b, { kind: 'underpass', localConfig, env, workload: SERVER })
  return { ...nodes, server }
}
