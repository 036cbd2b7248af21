/** Traffic to another network with our ztunnel at one end and Istio's at the other: both speak through the outer tunnel. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { ip } from '../../shared/net/address.ts'
import { accessLines } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { CLIENT_IDENTITY, SERVER_HOST, SERVER_IDENTITY, SERVER_PORT, VIP } from '../support/local-mesh.ts'
import { AUTHORITY, twoNetworks } from '../support/two-networks.ts'
import { at, attempt, connect, exchange, needsRoot, peerProgram, serve } from '../support/two-nodes.ts'

t.setTimeout(240_000)
const rust = peerProgram('ztunnel')
const skip = 'reason' in rust ? rust.reason : needsRoot()

for (const kinds of [
  { client: 'underpass', server: 'rust' },
  { client: 'rust', server: 'underpass' }
] as const) {
  t.test(`${kinds.client} to ${kinds.server}: bytes both ways, and who talks to whom`, { skip }, async t => {
    const { a, b, client, server, gateway } = await twoNetworks(t, { kinds })
    await serve(t, b, socket => socket.pipe(socket), { port: SERVER_PORT })
    const payload = randomBytes(2_000_000)
    t.ok((await exchange(await connect(a, at(ip(VIP), 80)), payload)).equals(payload))
    t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('again')), 'again')
    t.strictSame(
      gateway.asked.map(({ authority, client, from }) => ({ authority, client, ip: from.ip })),
      [1, 2].map(() => ({ authority: AUTHORITY, client: CLIENT_IDENTITY, ip: a.v4 }))
    )
    const wanted = {
      'src.identity': CLIENT_IDENTITY,
      'dst.hbone_addr': AUTHORITY,
      'dst.service': SERVER_HOST
    }
    for (const [name, proxy] of Object.entries({ client, server })) {
      await eventually(`the ${name} logged both`, () => accessLines(proxy.log).length === 2, {
        everyMs: 50
      })
      for (const { level, fields } of accessLines(proxy.log)) {
        t.equal(level, 'info')
        t.match(fields, { ...wanted, ...(name === 'client' && { 'dst.identity': SERVER_IDENTITY }) }, name)
        t.equal(fields['error'], undefined)
      }
    }
  })

  t.test(
    `${kinds.client} to ${kinds.server}: a destination that is somebody else is not talked to`,
    { skip },
    async t => {
      const { a, b, gateway } = await twoNetworks(t, {
        kinds,
        service: { subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/another'] }
      })
      await serve(t, b, () => t.fail('the application was reached'), { port: SERVER_PORT })
      t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('x')), '')
      t.equal(gateway.asked.length, 1, 'the outer tunnel was opened')
    }
  )
}
