import t, { type Test } from 'tap'
import type { TLSSocket } from 'node:tls'
import { acceptTls, connectTls } from '../../shared/hbone/tls.ts'
import { splitPem, workloadCertificate, type WorkloadCertificate } from '../../shared/identity/certificate.ts'
import { createCsr } from '../../shared/identity/csr.ts'
import { FakeCa } from '../../shared/identity/fake-ca.ts'
import {
  createIntermediate,
  createRoot,
  issueCertificate,
  issuerOf,
  type Issuer
} from '../../shared/identity/issue.ts'
import { RevocationList } from '../../shared/identity/revocation.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import type { Workload } from '../../shared/mesh/model.ts'
import type { MeshView } from '../../shared/mesh/view.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { Metrics } from '../../shared/telemetry/metrics.ts'
import { workerFamilies } from '../../ztunnel/families.ts'
import { Revocations, type RevocableSession } from '../../ztunnel/revocation.ts'
import { UnknownPolicies } from '../../ztunnel/unknown-policies.ts'
import { tcpPair } from '../shared/hbone/support.ts'
import { crlBy, fakeCaCrl } from '../support/revocation-list.ts'

const never = new AbortController().signal

t.test('live sessions of revoked peers end on both sides, once; others are not touched', async t => {
  const { client, server, near, far, metrics, revocations } = await ends(t)
  revocations.replace(RevocationList.empty)
  const [outbound, inbound] = [new FakeSession(), new FakeSession()]
  revocations.admit('source', near, client, () => outbound)
  revocations.admit('destination', far, server, () => inbound)
  t.equal(revocations.replace(list(t, server)), 1)
  t.match(outbound.reason, { code: 'PEER_REVOKED', responseFlag: 'CERT_REVOKED' })
  t.notOk(inbound.closed.aborted, 'its peer, the client, is not on the list')
  t.equal(revocations.replace(list(t, server)), 0, 'what has ended is forgotten')
  t.equal(revocations.replace(list(t, client, server)), 1)
  t.match(inbound.reason, { code: 'PEER_REVOKED' })
  for (const reporter of ['source', 'destination']) {
    t.equal(metrics.series('istio_crl_policy_rejections_total', reporter).value, 1, reporter)
  }
})

t.test('a revoked peer is refused before there is a session', async t => {
  const { client, near, metrics, revocations } = await ends(t, 'server')
  const make = (): RevocableSession => {
    throw new Error('a session would say something')
  }
  t.throws(() => revocations.admit('source', near, client, make), {
    code: 'PEER_REVOKED',
    message: /^connection closed: peer certificate revoked by CRL/
  })
  t.ok(near.destroyed)
  t.equal(metrics.series('istio_crl_policy_rejections_total', 'source').value, 1)
})

t.test('whose certificates cannot be read is refused while there are lists, and only then', async t => {
  const { client, metrics, revocations } = await ends(t)
  const near = { getPeerCertificate: () => null, destroy: () => undefined } as unknown as TLSSocket
  revocations.admit('source', near, client, () => new FakeSession())
  revocations.replace(list(t, client))
  t.throws(() => revocations.admit('source', near, client, () => new FakeSession()), { code: 'TLS_FAILED' })
  t.equal(metrics.series('istio_crl_untracked_connections_total', 'source').value, 1)
})

t.test(
  'a client under an authority that was taken back is refused, and cut off, though we know only its root',
  async t => {
    const valid = { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 }
    const root = createRoot({ organization: 'root', ...valid })
    const above = issuerOf({ ...root, rootsPem: root.certificatePem })
    const cluster = createIntermediate({ organization: 'another cluster', ...valid, issuer: above })
    const client = credentialsOf('client', issuerOf({ ...cluster, rootsPem: root.certificatePem }))
    const server = credentialsOf('server', above)
    const revocations = new Revocations(new Metrics(workerFamilies))
    revocations.replace(RevocationList.empty)
    const accept = async (): Promise<TLSSocket> => {
      const [near, far] = await tcpPair(t)
      const [connected, accepted] = await Promise.all([
        connectTls(near, client, [server.identity], never),
        acceptTls(far, server, never, { wholeChain: revocations.configured })
      ])
      t.teardown(() => {
        connected.socket.destroy()
        accepted.socket.destroy()
      })
      return accepted.socket
    }
    const live = new FakeSession()
    revocations.admit('destination', await accept(), server, () => live)
    t.equal(
      revocations.replace(RevocationList.read(Buffer.from(crlBy(t, root, [cluster.certificatePem]).pem))),
      1
    )
    t.match(live.reason, { code: 'PEER_REVOKED', message: /O=another cluster/ })
    const next = await accept()
    t.throws(() => revocations.admit('destination', next, server, () => new FakeSession()), {
      code: 'PEER_REVOKED'
    })
  }
)

t.test('a policy that nobody knows is told of once, and never more than a bounded number', async t => {
  const lines: string[] = []
  const output = new LogOutput({
    filter: { fallback: 'info', targets: new Map() },
    format: 'plain',
    sink: { write: line => lines.push(line) }
  })
  const log = output.logger('proxy')
  const view = { policy: (key: string) => (key === 'shop/known' ? {} : undefined) } as unknown as MeshView
  const listing = (...authorizationPolicies: string[]): Workload =>
    ({ namespace: 'shop', name: 'web', authorizationPolicies }) as unknown as Workload
  const unknown = new UnknownPolicies()
  const look = (workload: Workload): void => unknown.tell(log, workload, unknown.untold(view, workload))
  for (let i = 0; i < 3; i++) look(listing('shop/known', 'shop/gone'))
  t.equal(lines.length, 1)
  t.match(lines[0], /warn\tproxy\tskipping unknown policy\tpolicy="shop\/gone" workload="shop\/web"/)
  for (let i = 0; i < 3000; i++) look(listing(`shop/${i}`))
  t.equal(lines.length, 1000)
})

class FakeSession implements RevocableSession {
  readonly #over = new AbortController()
  reason: Error | undefined

  get closed(): AbortSignal {
    return this.#over.signal
  }

  destroy(reason: Error): void {
    this.reason = reason
    this.#over.abort(reason)
  }
}

interface Ends {
  readonly client: WorkloadCertificate
  readonly server: WorkloadCertificate
  readonly near: TLSSocket
  readonly far: TLSSocket
  readonly metrics: Metrics<typeof workerFamilies>
  readonly revocations: Revocations
}

/** A handshake that is done, client's end first. */
async function ends(t: Test, revoked?: 'server'): Promise<Ends> {
  const ca = new FakeCa()
  const [client, server] = await Promise.all(
    ['client', 'server'].map(serviceAccount =>
      ca.fetch(spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount }), never)
    )
  )
  if (client === undefined || server === undefined) throw new Error('two were asked for')
  const [near, far] = await tcpPair(t)
  const [connected, accepted] = await Promise.all([
    connectTls(near, client, [server.identity], never),
    acceptTls(far, server, never)
  ])
  t.teardown(() => {
    connected.socket.destroy()
    accepted.socket.destroy()
  })
  const metrics = new Metrics(workerFamilies)
  const revocations = new Revocations(metrics)
  if (revoked !== undefined) revocations.replace(list(t, server))
  return { client, server, near: connected.socket, far: accepted.socket, metrics, revocations }
}

function credentialsOf(serviceAccount: string, issuer: Issuer): WorkloadCertificate {
  const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount })
  const { csrPem, keyPem } = createCsr(identity)
  const issued = issueCertificate({ csrPem, identity, ttlSeconds: 3600, issuer, now: Date.now() })
  if (issued.kind === 'refused') throw new Error(issued.problem)
  const rootsPem = splitPem(issued.certChain.at(-1) ?? '')
  return workloadCertificate({ chainPem: issued.certChain.slice(0, -1), rootsPem, keyPem })
}

function list(t: Test, ...revoked: readonly WorkloadCertificate[]): RevocationList {
  return RevocationList.read(
    Buffer.from(
      fakeCaCrl(
        t,
        revoked.flatMap(({ chainPem }) => chainPem)
      )
    )
  )
}
