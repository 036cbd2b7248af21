import t, { type Test } from 'tap'
import https from 'node:https'
import { metricFamilies } from '../../../controlplane/metrics.ts'
import { serveWebhook, type WebhookServer } from '../../../controlplane/serve/webhook.ts'
import { createRoot, issueServerCertificate, issuerOf } from '../../../shared/identity/issue.ts'
import { ip } from '../../../shared/net/address.ts'
import { silent } from '../../../shared/telemetry/logger.ts'
import { Metrics } from '../../../shared/telemetry/metrics.ts'

const times = { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 }

function certificate(organization: string): {
  pair: { certificatePem: string; keyPem: string }
  rootsPem: string
} {
  const root = createRoot({ organization, ...times })
  const issuer = issuerOf({ ...root, rootsPem: root.certificatePem })
  return {
    pair: issueServerCertificate({ names: ['localhost'], issuer, ...times }),
    rootsPem: root.certificatePem
  }
}

async function world(t: Test): Promise<{
  server: WebhookServer
  rootsPem: string
  metrics: Metrics<typeof metricFamilies>
}> {
  const { pair, rootsPem } = certificate('first')
  const metrics = new Metrics(metricFamilies)
  const server = await serveWebhook({
    listen: { ip: ip('127.0.0.1'), port: 0 },
    certificate: { ...pair, clientRootsPem: rootsPem },
    metrics,
    log: silent
  })
  t.teardown(async () => server.close())
  return { server, rootsPem, metrics }
}

async function post(
  server: WebhookServer,
  ca: string,
  body: string | Buffer,
  { path = '/validate', method = 'POST' } = {}
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = https.request(
      {
        host: '127.0.0.1',
        port: server.address.port,
        servername: 'localhost',
        ca,
        method,
        path,
        agent: false
      },
      response => {
        const parts: Buffer[] = []
        response.on('data', (part: Buffer) => parts.push(part))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() })
        )
        response.on('error', reject)
      }
    )
    request.on('error', reject)
    request.end(body)
  })
}

function review(operation: string, object: unknown): string {
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u-1',
      operation,
      resource: { group: 'security.istio.io', version: 'v1', resource: 'peerauthentications' },
      object
    }
  })
}

const policy = (spec: object): object => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { namespace: 'shop', name: 'a' },
  spec
})

t.test('a review is answered', async t => {
  const { server, rootsPem, metrics } = await world(t)
  const ask = async (operation: string, object: unknown): Promise<unknown> => {
    const { status, body } = await post(server, rootsPem, review(operation, object))
    t.equal(status, 200)
    return JSON.parse(body)
  }
  const good = policy({ mtls: { mode: 'STRICT' } })
  const bad = policy({ portLevelMtls: {} })
  const answered = { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' }
  t.strictSame(await ask('CREATE', good), { ...answered, response: { uid: 'u-1', allowed: true } })
  t.match(await ask('UPDATE', bad), {
    response: {
      uid: 'u-1',
      allowed: false,
      status: {
        code: 422,
        message: 'configuration is invalid: spec.portLevelMtls: is empty; name a port, or leave it out'
      }
    }
  })
  t.match(await ask('CREATE', policy({ selector: {} })), {
    response: { allowed: true, warnings: [/spec\.selector\.matchLabels: selects every workload/] }
  })
  t.match(await ask('DELETE', undefined), { response: { allowed: true } }, 'whatever is wrong may be deleted')
  t.match(await ask('CREATE', { apiVersion: 'security.istio.io/v9', kind: 'Newer' }), {
    response: { allowed: true }
  })
  t.equal(metrics.series('galley_validation_passed', 'security.istio.io', 'peerauthentications').value, 2)
  t.equal(metrics.series('galley_validation_failed', 'security.istio.io', 'peerauthentications').value, 1)
})

t.test('what is no review is refused, and the next one answered', async t => {
  const { server, rootsPem } = await world(t)
  for (const body of ['', 'x', '[]', 'null', '{}', '{"kind":"AdmissionReview","request":7}']) {
    t.equal((await post(server, rootsPem, body)).status, 400, JSON.stringify(body))
  }
  t.equal((await post(server, rootsPem, '', { method: 'GET' })).status, 405)
  t.equal((await post(server, rootsPem, review('CREATE', {}), { path: '/inject' })).status, 404)
  const large = Buffer.alloc(9 << 20, 'x')
  const outcome = await post(server, rootsPem, large).then(
    ({ status }) => status,
    () => 413 // hung up while the client still wrote
  )
  t.equal(outcome, 413)
  t.equal((await post(server, rootsPem, review('CREATE', policy({})))).status, 200)
})

t.test('a new certificate is shown to new connections', async t => {
  const { server, rootsPem } = await world(t)
  const second = certificate('second')
  server.renew({ ...second.pair, clientRootsPem: second.rootsPem })
  await t.rejects(post(server, rootsPem, ''))
  t.equal((await post(server, second.rootsPem, review('CREATE', policy({})))).status, 200)
})
