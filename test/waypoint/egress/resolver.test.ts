/** Names asked of a real DNS server. */
import t from 'tap'
import { familiesHere, resolverOf } from '../../../waypoint/egress/resolver.ts'
import { startDns } from './dns-server.ts'

t.test('addresses of both families with their time', async t => {
  const dns = await startDns(t, {
    'a.example': ['1.1.1.1', '2606:4700::1', '1.0.0.1'],
    'six.example': ['2606:4700::1']
  })
  dns.ttl = 7
  const ask = resolverOf({ servers: [dns.address], families: [4, 6], timeoutMs: 4000 })
  t.strictSame(await ask('a.example'), { addresses: ['1.1.1.1', '1.0.0.1', '2606:4700::1'], ttlMs: 7000 })
  t.strictSame((await ask('six.example')).addresses, ['2606:4700::1'])
  const only4 = resolverOf({ servers: [dns.address], families: [4], timeoutMs: 4000 })
  t.strictSame((await only4('a.example')).addresses, ['1.1.1.1', '1.0.0.1'])
  t.strictSame((await only4('six.example')).addresses, [], 'what cannot be reached is not asked for')
})

t.test('nobody has it, nobody says, and silence', async t => {
  const dns = await startDns(t, { 'broken.example': 'refuse', 'silent.example': 'silent' })
  const ask = resolverOf({ servers: [dns.address], families: [4], timeoutMs: 400 })
  t.strictSame((await ask('unknown.example')).addresses, [])
  await t.rejects(ask('broken.example'), { code: 'ESERVFAIL' })
  await t.rejects(ask('silent.example'))
})

t.test('no search domain is tried', async t => {
  const dns = await startDns(t, { name: ['1.1.1.1'] })
  const ask = resolverOf({ servers: [dns.address], families: [4], timeoutMs: 4000 })
  t.strictSame((await ask('name')).addresses, ['1.1.1.1'])
  await ask('other')
  t.strictSame(dns.asked, ['name', 'other'])
})

t.test('which families can be reached', async t => {
  const at = (address: string, family: 'IPv4' | 'IPv6', internal = false) => ({
    ...{ address, family, internal, netmask: '', mac: '', cidr: null, scopeid: 0 }
  })
  const loopback = [at('127.0.0.1', 'IPv4', true), at('::1', 'IPv6', true)]
  const rows = [
    { name: 'only loopback', own: [], expect: [4] },
    { name: 'IPv4', own: [at('10.0.0.5', 'IPv4'), at('fe80::5', 'IPv6')], expect: [4] },
    { name: 'both', own: [at('10.0.0.5', 'IPv4'), at('fd00::5', 'IPv6')], expect: [4, 6] },
    { name: 'IPv6', own: [at('2a00::5', 'IPv6')], expect: [6] }
  ]
  for (const { name, own, expect } of rows) {
    const interfaces = { lo: loopback, eth0: own } as Parameters<typeof familiesHere>[1]
    t.strictSame(familiesHere(true, interfaces), expect, name)
    t.strictSame(familiesHere(false, interfaces), [4], `${name}, without IPv6`)
  }
})
