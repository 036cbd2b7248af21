import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { differences } from '../../daemonset/rules/capture.ts'
import { desiredRules, type RuleOptions } from '../../daemonset/rules/desired.ts'
import { desiredIptables, iptablesScript } from '../../daemonset/rules/iptables.ts'
import { nftLines } from '../../daemonset/rules/nft-words.ts'
import { desiredNft, nftTransaction } from '../../daemonset/rules/nft.ts'

const plain: RuleOptions = {
  mode: 'tproxy',
  inbound: true,
  dns: false,
  virtualInterfaces: [],
  probeAddresses: [ip('169.254.7.127'), ip('fd16:9254:7127:1337:ffff:ffff:ffff:ffff')],
  leakGuard: true
}
const syn = '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN'

/** Lines without the chain's name, one chain of one table and family. */
function chainOf(options: RuleOptions, family: 4 | 6, table: string, direction: string): string[] {
  return desiredIptables(desiredRules(options), [family])
    .filter(line => line.startsWith(`ipv${family} ${table} UNDERPASS_${direction}_`))
    .map(line => line.slice(line.indexOf(': ') + 2))
}

t.test('TPROXY by iptables, IPv4, rule by rule', async t => {
  t.strictSame(chainOf(plain, 4, 'mangle', 'PRE'), [
    '-m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff',
    '-m mark --mark 0x539/0xfff -j RETURN',
    `-i lo ${syn} -m mark --mark 0x111/0xfff -j TPROXY --on-port 15001 --on-ip 0.0.0.0 --tproxy-mark 0x111/0xfff`,
    '-i lo -j RETURN',
    '-s 169.254.7.127/32 -j RETURN',
    '-d 127.0.0.0/8 -j RETURN',
    '-p tcp -m tcp --dport 15008 -j RETURN',
    `${syn} -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x0/0x0`
  ])
  t.strictSame(chainOf(plain, 4, 'mangle', 'OUT'), [
    '-m mark --mark 0x539/0xfff -j RETURN',
    '-o lo -j RETURN',
    '-d 169.254.7.127/32 -j RETURN',
    '-d 127.0.0.0/8 -j RETURN',
    `${syn} -j CONNMARK --set-xmark 0x111/0xfff`,
    '-m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xfff --ctmask 0xfff'
  ])
  t.strictSame(chainOf(plain, 4, 'mangle', 'POST'), ['! -o lo -m mark --mark 0x111/0xfff -j DROP'])
})

t.test('IPv6 has the same rules with its own addresses', async t => {
  const [v4, v6] = [chainOf(plain, 4, 'mangle', 'PRE'), chainOf(plain, 6, 'mangle', 'PRE')]
  t.equal(v6.length, v4.length)
  t.ok(v6.includes('-s fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128 -j RETURN'))
  t.ok(v6.includes('-d ::1/128 -j RETURN'))
  t.ok(v6.includes(`${syn} -j TPROXY --on-port 15006 --on-ip :: --tproxy-mark 0x0/0x0`))
  t.notOk(v6.some(line => line.includes('127.0.0')))
})

t.test('REDIRECT by iptables diverts only SYN, so that live connections stay', async t => {
  const redirect: RuleOptions = { ...plain, mode: 'redirect' }
  const natPre = chainOf(redirect, 4, 'nat', 'PRE')
  const natOut = chainOf(redirect, 4, 'nat', 'OUT')
  t.equal(natPre.at(-1), `${syn} -j REDIRECT --to-ports 15006`)
  t.equal(natOut.at(-1), `${syn} -j REDIRECT --to-ports 15001`)
  for (const line of [...natPre, ...natOut]) {
    if (line.includes('REDIRECT')) t.match(line, /--tcp-flags FIN,SYN,RST,ACK SYN/)
  }
  t.ok(natPre.indexOf('-s 169.254.7.127/32 -j RETURN') < natPre.length - 1)
  t.strictSame(chainOf(redirect, 4, 'mangle', 'OUT'), [
    '-m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xfff --ctmask 0xfff'
  ])
})

t.test('DNS by TPROXY, rule by rule: both protocols, before what takes all of TCP', async t => {
  const dns: RuleOptions = { ...plain, dns: true }
  const loop = '-m mark --mark 0x111/0xfff -j TPROXY'
  t.strictSame(chainOf(dns, 4, 'mangle', 'PRE').slice(2, 6), [
    `-i lo -p tcp -m tcp --dport 53 --tcp-flags FIN,SYN,RST,ACK SYN ${loop} --on-port 15053 --on-ip 0.0.0.0 --tproxy-mark 0x111/0xfff`,
    `-i lo -p udp -m udp --dport 53 ${loop} --on-port 15053 --on-ip 0.0.0.0 --tproxy-mark 0x111/0xfff`,
    `-i lo ${syn} ${loop} --on-port 15001 --on-ip 0.0.0.0 --tproxy-mark 0x111/0xfff`,
    '-i lo -j RETURN'
  ])
  const out = chainOf(dns, 6, 'mangle', 'OUT')
  t.strictSame(out.slice(-5), [
    `${syn} -j CONNMARK --set-xmark 0x111/0xfff`,
    '-p udp -m udp --sport 53 -j RETURN',
    '-d fe80::/10 -p udp -m udp --dport 53 -j RETURN',
    '-p udp -m udp --dport 53 -j CONNMARK --set-xmark 0x111/0xfff',
    '-m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xfff --ctmask 0xfff'
  ])
  t.ok(out.indexOf('-d ::1/128 -j RETURN') < out.length - 5, 'a resolver on the loopback is left alone')
})

t.test('DNS by REDIRECT: both protocols, and ztunnel’s own queries in their own zone', async t => {
  const dns: RuleOptions = { ...plain, mode: 'redirect', dns: true }
  t.strictSame(chainOf(dns, 4, 'nat', 'OUT').slice(-4), [
    '-p udp -m udp --sport 53 -j RETURN',
    '-p udp -m udp --dport 53 -j REDIRECT --to-ports 15053',
    '-p tcp -m tcp --dport 53 --tcp-flags FIN,SYN,RST,ACK SYN -j REDIRECT --to-ports 15053',
    `${syn} -j REDIRECT --to-ports 15001`
  ])
  t.strictSame(chainOf(dns, 4, 'raw', 'OUT'), [
    '-p udp -m udp --dport 53 -m mark --mark 0x539/0xfff -j CT --zone 1'
  ])
  t.strictSame(chainOf(dns, 4, 'raw', 'PRE'), ['-p udp -m udp --sport 53 -j CT --zone 1'])
})

t.test('TPROXY by nft: each tproxy is followed by a drop for when nobody listens', async t => {
  const lines = desiredNft(desiredRules(plain)).map(line => line.replace(/ # .*$/, ''))
  const at = lines.findIndex(line => line.endsWith('tproxy to :15006 accept'))
  t.equal(lines[at], 'pre: tcp flags & ack,fin,rst,syn syn tproxy to :15006 accept')
  t.equal(lines[at + 1], 'pre: tcp flags & ack,fin,rst,syn syn drop')
  t.ok(lines.includes('chain out: type route hook output priority -150 policy accept'))
  t.ok(lines.includes('out: ct mark & 0xfff 0x111 meta mark set meta mark & 0xfffff000 | 0x111'))
})

t.test('the nft transaction replaces the whole table at once', async t => {
  const { nftables } = nftTransaction(desiredRules(plain))
  t.strictSame(
    nftables.slice(0, 3).map(command => Object.keys(command)),
    [['add'], ['delete'], ['add']]
  )
})

t.test('versions of nft that list a mark differently compare equal', async t => {
  const expression = (kept: number, flags: object): object => ({
    rule: {
      chain: 'out',
      comment: 'x',
      expr: [
        {
          match: {
            op: '==',
            left: { '&': [{ payload: { protocol: 'tcp', field: 'flags' } }, flags] },
            right: 'syn'
          }
        },
        {
          mangle: {
            key: { ct: { key: 'mark' } },
            value: { '|': [{ '&': [{ ct: { key: 'mark' } }, kept] }, 0x111] }
          }
        }
      ]
    }
  })
  const old = nftLines([expression(0xfffff111, ['fin', 'syn', 'rst', 'ack']) as never])
  const recent = nftLines([
    expression(0xfffff000, { '|': [{ '|': [{ '|': ['fin', 'syn'] }, 'rst'] }, 'ack'] }) as never
  ])
  t.strictSame(old, recent)
})

const variations: readonly { name: string; options: Partial<RuleOptions>; has?: RegExp; hasNot?: RegExp }[] =
  [
    { name: 'ingress mode leaves traffic into the pod alone', options: { inbound: false }, hasNot: /15006/ },
    { name: 'DNS diverts queries to the proxy', options: { dns: true }, has: /udp --dport 53 .*15053/ },
    { name: 'no DNS, no rule for it', options: {}, hasNot: /53 |15053/ },
    { name: 'the guard can be switched off', options: { leakGuard: false }, hasNot: /DROP/ },
    {
      name: 'what arrives on a virtual interface is outbound',
      options: { virtualInterfaces: ['docker0'] },
      has: /-i docker0 .*TPROXY --on-port 15001/
    }
  ]

for (const { name, options, has, hasNot } of variations) {
  t.test(name, async t => {
    const lines = desiredIptables(desiredRules({ ...plain, ...options }), [4]).join('\n')
    if (has !== undefined) t.match(lines, has)
    if (hasNot !== undefined) t.notMatch(lines, hasNot)
  })
}

t.test('the generation follows every option, and nothing else', async t => {
  const generations = [{}, ...variations.map(({ options }) => options), { mode: 'redirect' as const }].map(
    options => desiredRules({ ...plain, ...options }).generation
  )
  t.equal(new Set(generations).size, generations.length - 1, 'two rows have the same options')
  t.equal(desiredRules({ ...plain }).generation, desiredRules(plain).generation)
})

t.test('an iptables swap moves the jump and drops the old chains in one table commit', async t => {
  const saved = [
    '*mangle',
    ':PREROUTING ACCEPT [0:0]',
    ':UNDERPASS_PRE_deadbeef - [0:0]',
    ':VPN - [0:0]',
    '-A PREROUTING -j VPN',
    '-A PREROUTING -j UNDERPASS_PRE_deadbeef',
    '-A UNDERPASS_PRE_deadbeef -i lo -j RETURN',
    'COMMIT',
    ''
  ].join('\n')
  const rules = desiredRules(plain)
  const lines = iptablesScript(rules, 4, saved).split('\n')
  const position = (line: string): number => lines.indexOf(line)
  t.ok(position(':UNDERPASS_PRE_deadbeef - [0:0]') > 0, 'emptied')
  t.ok(position('-D PREROUTING -j UNDERPASS_PRE_deadbeef') > 0)
  t.ok(position('-X UNDERPASS_PRE_deadbeef') > position('-D PREROUTING -j UNDERPASS_PRE_deadbeef'))
  t.ok(position(`-I PREROUTING 1 -j UNDERPASS_PRE_${rules.generation}`) > 0)
  t.equal(lines.filter(line => line === 'COMMIT').length, 1)
  t.notMatch(lines.join('\n'), /VPN/)
})

t.test('removal with nothing there does nothing', async t => {
  t.equal(iptablesScript(undefined, 4, '*mangle\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n'), '')
})

t.test('differences name what is missing, what is too much, and a wrong order', async t => {
  t.strictSame(differences(['a', 'b'], ['a', 'b']), { missing: [], unexpected: [] })
  t.strictSame(differences(['a', 'b'], ['b', 'c']), { missing: ['a'], unexpected: ['c'] })
  t.match(differences(['a', 'b'], ['b', 'a']).unexpected, [/order/])
  t.match(differences(['a'], ['a', 'a']).unexpected, [/more than once/])
})
