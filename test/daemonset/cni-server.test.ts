import t from 'tap'
import http from 'node:http'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { silent } from '../../shared/telemetry/logger.ts'
import { readCniAdd, serveCni, type CniAdd } from '../../daemonset/cni-server.ts'

const body = {
  Netns: '/var/run/netns/cni-1',
  PodName: 'web-1',
  PodNamespace: 'shop',
  IPs: [{ Interface: 0, Address: { IP: '10.0.0.7', Mask: '////AA==' }, Gateway: '10.0.0.1' }]
}

t.test('reads what Go writes', async t => {
  t.strictSame(
    readCniAdd({ ...body, IPs: [...body.IPs, { Address: 'fd00::7/64' }, { Address: '10.0.0.8' }] }),
    {
      netns: '/var/run/netns/cni-1',
      namespace: 'shop',
      name: 'web-1',
      addresses: ['10.0.0.7', 'fd00::7', '10.0.0.8']
    }
  )
})

const mistakes: readonly { name: string; value: unknown; problem: RegExp }[] = [
  { name: 'no object', value: 'x', problem: /the body: expected an object/ },
  { name: 'no namespace path', value: { ...body, Netns: '' }, problem: /Netns: expected a text/ },
  { name: 'no name', value: { ...body, PodName: 7 }, problem: /PodName/ },
  { name: 'no namespace', value: { ...body, PodNamespace: undefined }, problem: /PodNamespace/ },
  { name: 'no addresses', value: { ...body, IPs: [] }, problem: /IPs: expected at least one/ },
  {
    name: 'an address that is none',
    value: { ...body, IPs: [{ Address: { IP: 'x' } }] },
    problem: /IPs\[0\]\.Address/
  }
]

for (const { name, value, problem } of mistakes) {
  t.test(`refuses ${name}`, async t => void t.throws(() => readCniAdd(value), problem))
}

t.test('over its socket', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'cni-'))
  const socketPath = path.join(folder, 'pluginevent.sock')
  const seen: CniAdd[] = []
  const answers: number[] = []
  let failure: Error | undefined
  const options = {
    path: socketPath,
    onAdd: async (add: CniAdd) => {
      seen.push(add)
      if (failure !== undefined) throw failure
    },
    onAnswer: (status: number) => answers.push(status),
    log: silent
  }
  const server = await serveCni(options)
  t.teardown(() => rmSync(folder, { recursive: true }))
  const post = (text: string, { method = 'POST', path = '/cmdadd' } = {}): Promise<string> =>
    new Promise((resolve, reject) => {
      const request = http.request({ socketPath, method, path, agent: false }, response => {
        let answer = `${response.statusCode} `
        response.setEncoding('utf8').on('data', (chunk: string) => (answer += chunk))
        response.on('end', () => resolve(answer.trim()))
      })
      request.on('error', reject)
      request.end(text)
    })

  t.equal(statSync(socketPath).mode & 0o777, 0o600)
  t.equal(await post(JSON.stringify(body)), '200')
  t.match(seen, [{ name: 'web-1', namespace: 'shop' }])
  failure = new Error('no ztunnel is connected')
  t.equal(await post(JSON.stringify(body)), '500 shop/web-1 cannot be enrolled: no ztunnel is connected')
  t.match(await post('{'), /^400 /)
  t.match(await post(JSON.stringify({ ...body, padding: 'x'.repeat(70_000) })), /^400 .*larger than/)
  t.match(await post('', { path: '/cmddel' }), /^404 /)
  t.match(await post('', { method: 'GET' }), /^405 /)
  t.strictSame(answers, [200, 500, 400, 400, 404, 405])
  await server.close()
  await t.rejects(post(''), /ENOENT|ECONNREFUSED/)
})
