/** RateLimitPolicies as they are written. */
import t from 'tap'
import { parseYaml } from '../../../shared/kube/yaml.ts'
import { readRateLimitPolicy } from '../../../waypoint/rate-limit/read-rate-limit-policy.ts'
import type { RateLimitPolicy } from '../../../waypoint/rate-limit/rate-limit.ts'

function read(spec: string): RateLimitPolicy {
  const value = parseYaml(spec) as Readonly<Record<string, unknown>>
  return readRateLimitPolicy({ namespace: 'shop', name: 'few', createdMs: 0, spec: value }, 'istio-system')
}

t.test('what is not said has its default', async t => {
  const policy = read(`
targetRefs: [{group: '', kind: Service, name: web}]
limits: [{requests: 10, per: 1m}]`)
  t.match(policy, {
    ...{ namespace: 'shop', name: 'few', shadow: false, failOpen: true, headers: false, provider: '' },
    targets: [{ kind: 'Service', namespace: 'shop', name: 'web' }],
    limits: [{ name: '0', rate: { requests: 10, perMs: 60_000, burst: 10 }, scope: 'Local' }]
  })
  t.strictSame([policy.limits[0]?.key, policy.limits[0]?.match], [[], []])
})

t.test('everything that can be said', async t => {
  const policy = read(`
targetRefs: [{group: '', kind: Service, name: web}, {group: '', kind: Weather, name: fine}]
shadow: true
headers: true
onFailure: Deny
limits:
  - name: many
    requests: 100
    per: 1m30s
    burst: 300
    scope: Local
    key: [{type: Principal}, {type: Header, name: x-user}]
    match:
      paths: [/items*, '/orders/{*}']
      methods: [GET]
      hosts: [web]
      namespaces: [shop]
      serviceAccounts: [cart]
      headers: [{name: x-plan, values: [free, trial]}, {name: x-any}]`)
  t.match(policy, {
    ...{ shadow: true, headers: true, failOpen: false },
    limits: [{ name: 'many', rate: { requests: 100, perMs: 90_000, burst: 300 } }]
  })
  t.equal(policy.limits[0]?.match.length, 7, 'one test a field, and one a header')
  t.match(policy.problems, [/a policy cannot target Weather/])
})

t.test('what makes no sense is refused with its field', async t => {
  for (const [limits, problem] of [
    ['[{per: 1s}]', /spec\.limits\[0\]\.requests: expected a number from 1/],
    ['[{requests: 1}]', /spec\.limits\[0\]\.per: is required/],
    ['[{requests: 1.5, per: 1s}]', /spec\.limits\[0\]\.requests: expected a whole number/],
    ['[{requests: 1, per: 49ms}]', /spec\.limits\[0\]\.per: expected a duration from 50ms to 24h/],
    ['[{requests: 1, per: 25h}]', /spec\.limits\[0\]\.per: expected a duration from 50ms to 24h/],
    ['[{requests: 1, per: soon}]', /spec\.limits\[0\]\.per: expected a duration/],
    ['[{requests: 1, per: 1s, burst: -1}]', /spec\.limits\[0\]\.burst: expected a whole number/],
    ['[{requests: 1, per: 1s, color: red}]', /spec\.limits\[0\]\.color: unknown field/],
    ['[{requests: 1, per: 1s, match: {paths: ["/{x}"]}}]', /match\.paths\[0\]: .*has braces/],
    ['[{requests: 1, per: 1s, match: {methods: [7]}}]', /match\.methods\[0\]: expected a text/],
    [
      '[{requests: 1, per: 1s, match: {headers: [{name: ":path"}]}}]',
      /match\.headers\[0\]\.name: is no name/
    ],
    ['[{requests: 1, per: 1s, match: {colors: [red]}}]', /match\.colors: unknown field/],
    ['[{name: a, requests: 1, per: 1s}, {name: a, requests: 2, per: 1s}]', /two limits of one name/],
    ['5', /spec\.limits: expected a list/],
    [`[${'{requests: 1, per: 1s},'.repeat(17)}]`, /spec\.limits: has 17 entries; 16 is the most/]
  ] as const) {
    t.throws(() => read(`limits: ${limits}`), problem, limits)
  }
})
