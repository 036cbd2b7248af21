/** Certificates of clients at the edge: who is let in, and what pods are told of them. */
import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type tls from 'node:tls'
import { testAuthority, serverAuth } from '../../support/certificates.ts'
import { request, startPod, type Answer } from '../world.ts'
import {
  at,
  certificateFor,
  connectTls,
  freePort,
  gateway,
  httpRoute,
  secret,
  startGateway,
  type GatewayObject
} from './world.ts'

const services = [{ name: 'one', vip: '10.96.5.1' }]
const one = { name: 'one', address: '127.77.33.1', port: 8080, services: ['one'] }
const shown = certificateFor('shop.example')
const trusted = testAuthority('Clients')
const foreign = testAuthority('Clients')

interface Pair {
  readonly cert: string
  readonly key: string
}

function pair({ certPem, keyPem }: { readonly certPem: string; readonly keyPem: string }): Pair {
  return { cert: certPem, key: keyPem }
}

const good = pair(trusted.issue({ uris: ['spiffe://a/b;URI=c,d'], hostnames: ['client.example'] }))
const stranger = pair(foreign.issue())
const expired = pair(trusted.issue({ notBefore: Date.now() - 9e8, notAfter: Date.now() - 8e8 }))
const noClient = pair(trusted.issue({ usages: [serverAuth] }))

/** Undefined: not let in. */
async function ask(
  port: number,
  own: Partial<Pair>,
  options: tls.ConnectionOptions = {}
): Promise<Answer | undefined> {
  const socket = await connectTls(port, { servername: 'shop.example', ...own, ...options }).catch(
    () => undefined
  )
  try {
    return (
      socket &&
      (await request(socket, { headers: { host: 'shop.example', 'x-forwarded-client-cert': 'URI=me' } }))
    )
  } catch {
    return undefined
  } finally {
    socket?.destroy()
  }
}

async function closed(socket: tls.TLSSocket): Promise<void> {
  if (!socket.closed) await once(socket, 'close')
}

async function takesUpAgain(port: number): Promise<boolean> {
  const options = { servername: 'shop.example', maxVersion: 'TLSv1.2', ...good } as const
  const before = await connectTls(port, options)
  const session = before.getSession()
  before.destroy()
  const again = await connectTls(port, { ...options, ...(session === undefined ? {} : { session }) })
  const isReused = again.isSessionReused()
  again.destroy()
  return isReused
}

t.test('who is let in, and as whom', async t => {
  const [strict, lax, open] = [await freePort(), await freePort(), await freePort()]
  await startPod(t, one, ({ headers }, answer) => {
    answer.end(String(headers['x-forwarded-client-cert'] ?? 'nobody'))
  })
  const https = { protocol: 'HTTPS', certificate: 'shown' } as const
  const caCertificates = trusted.pem
  const edge = (first: object | undefined): GatewayObject =>
    gateway(
      { ...https, name: 'strict', port: strict, ...(first === undefined ? {} : { frontend: { ...first } }) },
      { ...https, name: 'lax', port: lax, frontend: { mode: 'AllowInsecureFallback', caCertificates } },
      { ...https, name: 'open', port: open }
    )
  const world = await startGateway(t, {
    services,
    pods: [one],
    objects: [
      secret('shown', shown),
      edge({ mode: 'AllowValidOnly', caCertificates }),
      httpRoute('one', [at('strict'), at('lax'), at('open')], 'one')
    ]
  })

  const clients = { good, stranger, expired, noClient, nobody: {} }
  for (const [name, own] of Object.entries(clients)) {
    for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
      const isGood = name === 'good'
      const [first, second, third] = [
        await ask(strict, own, { maxVersion }),
        await ask(lax, own, { maxVersion }),
        await ask(open, own, { maxVersion })
      ]
      t.equal(first?.status, isGood ? 200 : undefined, `${name} by ${maxVersion}, of valid ones only`)
      t.equal(second?.status, 200, `${name} by ${maxVersion}, with fallback`)
      if (isGood) t.equal(second?.text, first?.text)
      else t.equal(second?.text, 'nobody', `${name} is told of as nobody`)
      t.match(third, { status: 200, text: 'nobody' }, `${name} where nobody is asked`)
    }
  }

  const leaf = new X509Certificate(good.cert)
  const told = (await ask(strict, good))?.text ?? ''
  const [hash = '', cert = '', subject = '', ...names] = told.split(';')
  t.equal(hash, `Hash=${leaf.fingerprint256.replaceAll(':', '').toLowerCase()}`)
  t.equal(decodeURIComponent(cert.slice('Cert="'.length, -1)), leaf.toString())
  t.match(subject, /^Subject="[^"]*"$/)
  t.strictSame(names, ['URI=spiffe://a/b%3BURI=c%2Cd', 'DNS=client.example'], 'a name is one name')

  t.ok(await takesUpAgain(open), 'a session goes on')
  t.notOk(await takesUpAgain(lax), 'but not past the check')

  // Other authorities: who is connected makes no further request, and newcomers are asked anew.
  const held = await connectTls(strict, { servername: 'shop.example', ...good })
  t.match(await request(held, { headers: { host: 'shop.example' } }), { status: 200 })
  held.resume()
  t.equal(await world.put(edge({ mode: 'AllowValidOnly', caCertificates: foreign.pem })), undefined)
  await closed(held)
  t.pass('a connection of before ends')
  t.equal(await ask(strict, good), undefined)
  t.match(await ask(strict, stranger), { status: 200 })

  // What cannot be used changes nothing.
  for (const caCertificates of [
    '',
    'Hello world',
    '-----BEGIN CERTIFICATE-----\nSGk=\n-----END CERTIFICATE-----'
  ]) {
    t.match(
      await world.put(edge({ mode: 'AllowValidOnly', caCertificates })),
      /tls\.frontend\.caCertificates/
    )
  }
  t.match(await world.put(edge({ mode: 'Sometimes', caCertificates })), /tls\.frontend\.mode/)
  t.equal(await ask(strict, {}), undefined, 'nobody comes in without')
  t.match(await ask(strict, stranger), { status: 200 })
})
