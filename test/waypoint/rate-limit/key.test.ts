/** What requests are told apart by. */
import t from 'tap'
import type { Ip } from '../../../shared/net/address.ts'
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'
import { Fields, Problems } from '../../../shared/mesh/yaml-fields.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { keyOf, readKeyPart } from '../../../waypoint/rate-limit/key.ts'
import type { CountedRequest, KeyPart } from '../../../waypoint/rate-limit/rate-limit.ts'

const clientIp = '10.0.0.7' as Ip
const request: CountedRequest = {
  peer: spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' }),
  clientIp,
  destination: { port: 80 },
  service: 'web.shop.svc.cluster.local',
  http: {
    method: 'GET',
    path: '/items',
    authority: 'Web:80',
    headers: HeaderList.of('x-user', 'ann', 'x-user', 'ben', 'x-empty', ''),
    claims: { sub: 'ann', org: { id: 7 }, list: ['a'] }
  }
}
const anonymous: CountedRequest = { peer: undefined, clientIp, destination: { port: 80 }, service: undefined }

function part(entry: object): KeyPart {
  const problems = new Problems()
  const read = readKeyPart(new Fields(entry, 'key[0]', problems))
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return read
}

t.test('every kind of part: its name in a descriptor, and its value', async t => {
  for (const [entry, name, value] of [
    [{ type: 'Principal' }, 'principal', 'spiffe://cluster.local/ns/shop/sa/cart'],
    [{ type: 'Namespace' }, 'namespace', 'shop'],
    [{ type: 'ServiceAccount' }, 'service_account', 'shop/cart'],
    [{ type: 'SourceIp' }, 'remote_address', '10.0.0.7'],
    [{ type: 'Service' }, 'service', 'web.shop.svc.cluster.local'],
    [{ type: 'Path' }, 'path', '/items'],
    [{ type: 'Method' }, 'method', 'GET'],
    [{ type: 'Host' }, 'host', 'web:80'],
    [{ type: 'Header', name: 'X-User' }, 'header.x-user', 'ann,ben'],
    [{ type: 'Header', name: 'x-empty' }, 'header.x-empty', ''],
    [{ type: 'Header', name: 'x-none' }, 'header.x-none', undefined],
    [{ type: 'Claim', name: 'sub' }, 'claim.sub', 'ann'],
    [{ type: 'Claim', name: 'org.id' }, 'claim.org.id', '7'],
    [{ type: 'Claim', name: 'list' }, 'claim.list', undefined],
    [{ type: 'Claim', name: 'constructor' }, 'claim.constructor', undefined],
    [{ type: 'Constant', value: 'all' }, 'generic_key', 'all']
  ] as const) {
    const read = part(entry)
    t.equal(read.name, name)
    t.equal(read.value(request), value, name)
  }
  for (const type of ['Principal', 'Namespace', 'ServiceAccount', 'Service', 'Path', 'Method', 'Host']) {
    t.equal(part({ type }).value(anonymous), undefined, `${type} of a client without identity`)
  }
})

t.test('entries that make no sense name the field', async t => {
  for (const [entry, problem] of [
    [{}, /key\[0\]\.type: is required/],
    [{ type: 'Weather' }, /key\[0\]\.type: expected one of Principal/],
    [{ type: 'Header' }, /key\[0\]\.name: is required/],
    [{ type: 'Header', name: 'a b' }, /key\[0\]\.name: is no name of a header/],
    [{ type: 'Claim', name: 'a..b' }, /key\[0\]\.name: expected the name of a claim/],
    [{ type: 'Constant' }, /key\[0\]\.value: is required/],
    [{ type: 'Path', name: 'x' }, /key\[0\]\.name: unknown field/]
  ] as const) {
    t.throws(() => part(entry), problem)
  }
})

t.test('keys differ where one part does, also by where a part ends', async t => {
  const parts = [part({ type: 'Header', name: 'a' }), part({ type: 'Header', name: 'b' })]
  const key = (a: string, b: string): string => {
    const headers = HeaderList.of('a', a, 'b', b)
    return keyOf(parts, { ...request, http: { method: 'GET', path: '/', authority: '', headers } })
  }
  const all = [key('x', 'y'), key('xy', ''), key('', 'xy'), key('y', 'x')]
  t.equal(new Set(all).size, all.length)
  t.equal(keyOf([], request), '', 'one for all')
  const [long, other] = [key('x'.repeat(60_000), 'a'), key('x'.repeat(60_000), 'b')]
  t.not(long, other)
  t.ok(long.length < 100, 'what a client sends does not fill the memory')
})
