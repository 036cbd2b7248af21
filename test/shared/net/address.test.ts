import t from 'tap'
import {
  cidrContains,
  cidrFromBytes,
  formatCidr,
  formatSocketAddress,
  ip,
  ipFamily,
  ipFromBytes,
  ipToBytes,
  isLoopback,
  parseCidr,
  parseIp,
  parseSocketAddress,
  sameSocketAddress
} from '../../../shared/net/address.ts'

t.test('an address has one canonical text', async t => {
  const situations: readonly (readonly [text: string, expect: string | undefined])[] = [
    ['10.0.0.1', '10.0.0.1'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::ffff:a00:1', '10.0.0.1'],
    ['2001:DB8:0:0::1', '2001:db8::1'],
    ['::', '::'],
    ['1.2.3', undefined],
    ['1.2.3.256', undefined],
    ['01.2.3.4', undefined],
    ['0x7f.0.0.1', undefined],
    ['1.2.3.4.', undefined],
    ['fe80::1%eth0', undefined],
    ['example.com', undefined],
    ['', undefined]
  ]
  for (const [text, expect] of situations) t.equal(parseIp(text), expect, JSON.stringify(text))
  t.throws(() => ip('nowhere'), /not an IP address: "nowhere"/)
})

t.test('bytes and text are two forms of one address', async t => {
  for (const text of ['0.0.0.0', '255.1.2.3', '::1', '2001:db8::ff:0']) {
    t.equal(ipFromBytes(ipToBytes(ip(text))), text)
  }
  t.equal(ipFromBytes(Uint8Array.from([1, 2, 3])), undefined)
  t.equal(ipFamily(ip('::1')), 6)
  t.equal(ipFamily(ip('1.1.1.1')), 4)
  t.ok(isLoopback(ip('127.9.9.9')))
  t.ok(isLoopback(ip('::1')))
  t.notOk(isLoopback(ip('128.0.0.1')))
})

t.test('a socket address needs an address and a port', async t => {
  t.same(parseSocketAddress('10.0.0.1:80'), { ip: '10.0.0.1', port: 80 })
  t.same(parseSocketAddress('[2001:db8::1]:65535'), { ip: '2001:db8::1', port: 65535 })
  for (const text of [
    '10.0.0.1',
    '10.0.0.1:',
    '10.0.0.1:65536',
    '2001:db8::1:80',
    '[10.0.0.1]',
    'a:80',
    ':80'
  ]) {
    t.equal(parseSocketAddress(text), undefined, text)
  }
  t.equal(formatSocketAddress({ ip: ip('::1'), port: 1 }), '[::1]:1')
  t.equal(formatSocketAddress({ ip: ip('1.1.1.1'), port: 2 }), '1.1.1.1:2')
  t.ok(sameSocketAddress({ ip: ip('1.1.1.1'), port: 2 }, { ip: ip('1.1.1.1'), port: 2 }))
})

t.test('a block contains what shares its prefix and its family', async t => {
  const situations: readonly (readonly [block: string, address: string, contains: boolean])[] = [
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.1', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['10.1.2.3', '10.1.2.4', false],
    ['10.1.2.128/25', '10.1.2.200', true],
    ['10.1.2.128/25', '10.1.2.100', false],
    ['0.0.0.0/0', '1.2.3.4', true],
    ['0.0.0.0/0', '::1', false],
    ['2001:db8::/33', '2001:db8:7fff::1', true],
    ['2001:db8::/33', '2001:db8:8000::1', false]
  ]
  for (const [block, address, contains] of situations) {
    const parsed = parseCidr(block)
    t.equal(parsed !== undefined && cidrContains(parsed, ip(address)), contains, `${block} has ${address}`)
  }
  for (const text of ['10.0.0.0/33', '10.0.0.0/-1', '10.0.0/8', '::/129', '10.0.0.0/8/8', '10.0.0.0/']) {
    t.equal(parseCidr(text), undefined, text)
  }
  const block = parseCidr('10.1.2.3/16')
  t.equal(block && formatCidr(block), '10.1.0.0/16', 'host bits are dropped')
  t.equal(cidrFromBytes(Uint8Array.from([1, 2]), 3), undefined)
})
