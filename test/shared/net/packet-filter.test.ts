import t from 'tap'
import { ip, ipFamily, ipToBytes, type Ip } from '../../../shared/net/address.ts'
import { parsePacket } from '../../../shared/net/packet-capture.ts'
import type { Instruction } from '../../../shared/net/bpf.ts'
import { compilePacketFilter, type PacketFilter } from '../../../shared/net/packet-filter.ts'

/** The few instructions of classic BPF that filters use, as the kernel's documentation describes them. */
function run(program: readonly Instruction[], packet: Buffer): number {
  let accumulator = 0
  let index = 0
  for (let at = 0, steps = 0; steps < 1000; at++, steps++) {
    const [code, jumpTrue, jumpFalse, k] = program[at] ?? [0x06, 0, 0, 0]
    const end = (offset: number, size: number): boolean => offset + size > packet.length
    if (code === 0x20 && end(k, 4)) return 0
    else if (code === 0x20) accumulator = packet.readUInt32BE(k)
    else if (code === 0x28 && end(k, 2)) return 0
    else if (code === 0x28) accumulator = packet.readUInt16BE(k)
    else if (code === 0x30 && end(k, 1)) return 0
    else if (code === 0x30) accumulator = packet.readUInt8(k)
    else if (code === 0x48 && end(index + k, 2)) return 0
    else if (code === 0x48) accumulator = packet.readUInt16BE(index + k)
    else if (code === 0xb1) index = 4 * (packet.readUInt8(k) & 0xf)
    else if (code === 0x01) index = k
    else if (code === 0x54) accumulator &= k
    else if (code === 0x15) at += accumulator === k ? jumpTrue : jumpFalse
    else if (code === 0x45) at += (accumulator & k) !== 0 ? jumpTrue : jumpFalse
    else if (code === 0x05) at += k
    else if (code === 0x06) return k
    else throw new Error(`unknown instruction ${code}`)
  }
  throw new Error('the program does not end')
}

interface Sample {
  readonly from: Ip
  readonly to: Ip
  readonly ports: readonly [number, number]
  readonly protocol?: number
  readonly fragment?: number
  readonly options?: number
}

function packet({ from, to, ports, protocol = 6, fragment = 0, options = 0 }: Sample): Buffer {
  const transport = Buffer.alloc(20)
  transport.writeUInt16BE(ports[0], 0)
  transport.writeUInt16BE(ports[1], 2)
  transport.writeUInt8(5 << 4, 12)
  transport.writeUInt8(2, 13)
  if (ipFamily(from) === 4) {
    const header = Buffer.alloc(20 + options * 4)
    header.writeUInt8(0x45 + options, 0)
    header.writeUInt16BE(fragment, 6)
    header.writeUInt8(protocol, 9)
    header.set(ipToBytes(from), 12)
    header.set(ipToBytes(to), 16)
    return Buffer.concat([header, transport])
  }
  const header = Buffer.alloc(40)
  header.writeUInt8(0x60, 0)
  header.writeUInt8(protocol, 6)
  header.set(ipToBytes(from), 8)
  header.set(ipToBytes(to), 24)
  return Buffer.concat([header, transport])
}

const [a, b, c] = [ip('10.0.0.1'), ip('10.0.0.2'), ip('10.0.0.3')]
const [a6, b6, c6] = [ip('fd00::1'), ip('fd00::2'), ip('fd00::1:0:0:1')]
const v4: Sample = { from: a, to: b, ports: [40_000, 80] }
const v6: Sample = { from: a6, to: b6, ports: [40_000, 80] }

const situations: readonly { name: string; filter: PacketFilter; sample: Sample; taken: boolean }[] = [
  { name: 'no condition takes IPv4', filter: {}, sample: v4, taken: true },
  { name: 'no condition takes IPv6', filter: {}, sample: v6, taken: true },
  { name: 'the source', filter: { ip: a }, sample: v4, taken: true },
  { name: 'the destination', filter: { ip: b }, sample: v4, taken: true },
  { name: 'neither', filter: { ip: c }, sample: v4, taken: false },
  { name: 'the other family', filter: { ip: a }, sample: v6, taken: false },
  { name: 'the IPv6 source', filter: { ip: a6 }, sample: v6, taken: true },
  { name: 'the IPv6 destination', filter: { ip: b6 }, sample: v6, taken: true },
  { name: 'an address that begins and ends alike', filter: { ip: c6 }, sample: v6, taken: false },
  { name: 'the destination port', filter: { port: 80 }, sample: v4, taken: true },
  { name: 'the source port', filter: { port: 40_000 }, sample: v4, taken: true },
  { name: 'another port', filter: { port: 443 }, sample: v4, taken: false },
  { name: 'a port behind IP options', filter: { port: 80 }, sample: { ...v4, options: 2 }, taken: true },
  { name: 'a port of UDP', filter: { port: 80 }, sample: { ...v4, protocol: 17 }, taken: true },
  { name: 'ICMP has no ports', filter: { port: 80 }, sample: { ...v4, protocol: 1 }, taken: false },
  {
    name: 'a later fragment has no ports',
    filter: { port: 80 },
    sample: { ...v4, fragment: 100 },
    taken: false
  },
  { name: 'a port over IPv6', filter: { port: 80 }, sample: v6, taken: true },
  { name: 'address and port', filter: { ip: b, port: 80 }, sample: v4, taken: true },
  { name: 'address without the port', filter: { ip: b, port: 81 }, sample: v4, taken: false },
  { name: 'port without the address', filter: { ip: c6, port: 80 }, sample: v6, taken: false }
]

for (const { name, filter, sample, taken } of situations) {
  t.test(name, async t => {
    t.equal(run(compilePacketFilter(filter, 96), packet(sample)), taken ? 96 : 0)
  })
}

t.test('what is no IP packet is dropped', async t => {
  t.equal(run(compilePacketFilter({}, 96), Buffer.from([0, 1, 8, 0])), 0)
})

t.test('a packet is read from its first header on', async t => {
  const syn = parsePacket(Buffer.concat([packet(v4), Buffer.from('data')]), true)
  t.match(syn, {
    protocol: 'tcp',
    source: { ip: a, port: 40_000 },
    destination: { ip: b, port: 80 },
    outgoing: true,
    tcpFlags: 2
  })
  t.equal(syn?.payload.toString(), 'data')
  t.match(parsePacket(packet(v6), false), {
    source: { ip: a6, port: 40_000 },
    destination: { ip: b6, port: 80 }
  })
  t.match(parsePacket(packet({ ...v4, fragment: 7 }), false), {
    protocol: 'other',
    source: { ip: a, port: 0 }
  })
})

t.test('bytes that are cut anywhere never throw', async t => {
  for (const sample of [v4, v6]) {
    const whole = packet(sample)
    for (let length = 0; length <= whole.length; length++) {
      t.doesNotThrow(() => parsePacket(whole.subarray(0, length), false))
    }
  }
})
