/** `--internet`: the only thing that a lab makes on the host, and that it goes. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { hostResolvers, isLeftover, linkAddresses, tableName } from '../../lab/outside.ts'
import { makeNamespace, needsRoot } from '../support/namespaces.ts'
import { LabProcess, remains } from './lab-process.ts'

t.setTimeout(300_000)

t.test('rules of a lab are known by the process that made them', async t => {
  const alive = (pid: number): boolean => pid === 7
  t.equal(isLeftover(tableName(7, true), alive), false)
  t.equal(isLeftover(tableName(8, true), alive), true)
  t.equal(isLeftover(tableName(8, false), alive), true)
  t.equal(isLeftover('underpass-lab-other', alive), false, 'tables of others are left alone')
})

t.test('each lab has a block of addresses of its own', async t => {
  t.strictSame(linkAddresses(1), ['100.127.0.5', '100.127.0.6'])
  t.strictSame(linkAddresses(16_383), ['100.127.255.253', '100.127.255.254'])
})

t.test('name servers are those that the lab can reach', async t => {
  const files: Record<string, string> = {
    '/etc/resolv.conf': 'nameserver 127.0.0.53\n',
    '/run/systemd/resolve/resolv.conf': 'nameserver 198.51.100.1\nnameserver 2001:db8::1\n'
  }
  t.strictSame(
    hostResolvers(file => files[file]),
    ['198.51.100.1']
  )
  t.strictSame(
    hostResolvers(() => 'nameserver 198.51.100.9\n'),
    ['198.51.100.9']
  )
  t.strictSame(
    hostResolvers(() => undefined),
    []
  )
})

t.test(
  'a pod reaches the host’s network only with --internet, and kill -9 takes the way back',
  { skip: needsRoot() },
  async t => {
    const outside = makeNamespace(t, 'labout')
    const link = `lo${process.pid}`
    execFileSync('ip', ['link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', outside.name])
    t.teardown(() => void execFileSync('ip', ['link', 'delete', link]))
    execFileSync('ip', ['addr', 'add', '203.0.113.1/24', 'dev', link])
    execFileSync('ip', ['link', 'set', link, 'up'])
    outside.run('ip', 'addr', 'add', '203.0.113.2/24', 'dev', 'eth0')
    outside.run('ip', 'link', 'set', 'eth0', 'up')
    const script =
      'require("http").createServer((q, r) => r.end(q.socket.remoteAddress)).listen(8088, "203.0.113.2", () => console.log("up"))'
    const server = outside.start(process.execPath, '-e', script)
    await new Promise(resolve => server.stdout?.once('data', resolve))

    const pod = t.testdir({
      'client.yaml': `apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers: [{name: client, image: curlimages/curl, command: [sleep, infinity]}]
`
    })
    const lab = new LabProcess(t, 'root', [
      'up',
      '--no-mesh',
      '--internet',
      '--nodes',
      '1',
      '-f',
      `${pod}/client.yaml`
    ])
    await lab.printed('ready.')
    const answer = await lab.run('exec', 'client', '--', 'curl', '-sS', '-m', '5', 'http://203.0.113.2:8088/')
    t.match(answer, { code: 0, stdout: '203.0.113.1' }, 'behind the host’s address')
    const table = tableName(lab.child.pid ?? 0, true)
    const tables = (): string => execFileSync('nft', ['list', 'tables', 'ip'], { encoding: 'utf8' })
    const own = (): boolean =>
      tables().includes(table) || tables().includes(tableName(lab.child.pid ?? 0, false))
    t.ok(own())
    const traces = lab.traces()
    lab.child.kill('SIGKILL')
    t.strictSame(await remains(traces), [])
    const deadline = Date.now() + 10_000
    while (own() && Date.now() < deadline) await new Promise(resolve => setTimeout(resolve, 50))
    t.notOk(own(), 'no rule is left on the host')
  }
)
