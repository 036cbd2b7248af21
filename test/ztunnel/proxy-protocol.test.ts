import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { proxyHeader } from '../../ztunnel/proxy-protocol.ts'

const signature = '0d0a0d0a000d0a515549540a'
const identity = spiffeId({ trustDomain: 'td', namespace: 'n', serviceAccount: 's' })
const address = (text: string, port: number): { ip: ReturnType<typeof ip>; port: number } => ({
  ip: ip(text),
  port
})

t.test('IPv4 with identity', async t => {
  const header = proxyHeader(address('10.0.0.1', 4660), address('10.0.0.2', 80), identity)
  const tlv = `d0${Buffer.alloc(2, 0).fill(identity.length, 1).toString('hex')}${Buffer.from(identity).toString('hex')}`
  const length = (12 + 3 + identity.length).toString(16).padStart(4, '0')
  t.equal(header.toString('hex'), `${signature}2111${length}0a0000010a00000212340050${tlv}`)
})

t.test('IPv6 without identity', async t => {
  const header = proxyHeader(address('fd00::1', 1), address('fd00::2', 2), undefined)
  t.equal(
    header.toString('hex'),
    `${signature}21210024fd000000000000000000000000000001fd00000000000000000000000000000200010002`
  )
})

t.test('mixed families say nothing about addresses', async t => {
  const header = proxyHeader(address('10.0.0.1', 1), address('fd00::2', 2), undefined)
  t.equal(header.toString('hex'), `${signature}21010000`)
})
