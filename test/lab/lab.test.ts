/** The lab as users have it: up, in use, down, and nothing left of it however it ends. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { readState, removeState, removeStateScript } from '../../lab/state.ts'
import { LabProcess, remains, users } from './lab-process.ts'

t.setTimeout(500_000)
const manifests = path.join(import.meta.dirname, 'manifests')
const echo = ['-f', path.join(manifests, 'echo.yaml')]

for (const { user, skip } of await users()) {
  t.test(`as ${user}: manifests of strangers run, and down removes all`, { skip }, async t => {
    const lab = new LabProcess(t, user, [
      'up',
      '--no-mesh',
      '-f',
      path.join(manifests, 'bookshop.yaml'),
      ...echo
    ])
    await lab.printed('ready.')
    t.notMatch(lab.stdout, /not ready yet/)
    const exec = (...command: string[]) => lab.run('exec', '-n', 'echo', 'deploy/client', '--', ...command)

    const byName = await exec('curl', '-sS', '-m', '5', 'http://echo/path?q=1')
    t.match(JSON.parse(byName.stdout), {
      namespace: 'echo',
      path: '/path?q=1',
      host: 'echo',
      container: 'echo'
    })
    const otherNamespace = await exec('curl', '-sS', '-m', '5', 'http://productpage.default:9080/')
    t.match(JSON.parse(otherNamespace.stdout), { serviceAccount: 'bookinfo-productpage' })
    const grpcPort = await exec('curl', '-sS', '-m', '5', '--http2-prior-knowledge', 'http://echo:7070/x')
    t.match(JSON.parse(grpcPort.stdout), { proto: 'HTTP/2.0' })
    const pod = await exec('curl', '-sS', '-m', '5', 'http://db-1.db:5432/')
    t.match(JSON.parse(pod.stdout), { pod: 'db-1' }, 'a pod of a StatefulSet by its own name')
    const unknown = await exec('curl', '-sS', '-m', '5', 'http://example.org/')
    t.equal(unknown.code, 6, 'there is no outside')

    t.equal((await exec('sh', '-c', 'echo $COLOUR; cat /etc/settings/colour')).stdout, 'blue\nblue')
    t.equal((await exec('sh', '-c', 'echo x > /scratch/x && cat /scratch/x')).stdout, 'x\n')
    t.not((await exec('sh', '-c', 'echo x > /usr/x')).code, 0, 'the root file system is read-only')
    t.match(
      (await exec('cat', '/proc/self/status')).stdout,
      /CapEff:\s+0{13}[04]00\n/,
      'no capability but one at most'
    )
    t.equal((await exec('ls', '/root', '/home')).stdout, '/home:\n\n/root:\n', 'no home of anybody')

    const job = await lab.until(
      ({ stdout }) => stdout.includes('Complete'),
      'kubectl',
      'get',
      'job',
      'once',
      '-n',
      'echo',
      '-o',
      'json'
    )
    t.match(job.stdout, '"Complete"')
    const status = await lab.run('status')
    t.match(status.stdout, /echo +client-\S+ +client +yes .* \/(usr\/)?bin\/sleep infinity/)
    t.match(status.stdout, /details-v1-\S+ +details +yes .* stand-in: the image docker.io\/example/)

    const traces = lab.traces()
    t.match(await lab.run('down'), { code: 0, stdout: /the lab is gone/ })
    t.equal((await lab.ended()).code, 0)
    t.strictSame(await remains(traces), [])
    for (const verb of ['status', 'kubeconfig', 'exec x -- true', 'kubectl get pods']) {
      t.match(await lab.run(...verb.split(' ')), { code: 1, stderr: /no lab runs; start one with/ }, verb)
    }
    t.match(await lab.run('down'), { code: 0, stdout: /no lab runs/ }, 'twice is as good as once')
  })

  t.test(`as ${user}: kill -9 leaves nothing, and a second start works`, { skip }, async t => {
    const lab = new LabProcess(t, user, ['up', '--no-mesh', ...echo])
    await lab.printed('ready.')
    t.match(await lab.run('up'), { code: 1, stderr: /a lab runs already/ })
    const traces = lab.traces()
    lab.child.kill('SIGKILL')
    await lab.ended()
    t.strictSame(await remains(traces), [])
    const next = await lab.run('up', '--no-mesh', '--detach')
    t.match(next, { code: 0, stdout: /ready\. kubeconfig/ }, 'in the background')
    t.equal((await lab.run('kubeconfig')).stdout, `${lab.folder}/kubeconfig\n`)
    t.match(await lab.run('kubectl', 'get', 'nodes'), { stdout: /node2 .*Ready/ })
    t.match(await lab.run('down'), { code: 0 })
    t.strictSame(await remains(traces), [])
  })
}

// What does not depend on who started it.
const [chosen] = (await users()).filter(({ skip }) => skip === false)
const user = chosen?.user ?? 'root'
const skip = chosen === undefined && 'no user can run a lab here'

t.test('the small kubectl changes what runs', { skip }, async t => {
  const lab = new LabProcess(t, user, ['up', '--no-mesh', ...echo])
  await lab.printed('ready.')
  const kubectl = (...words: string[]) => lab.run('kubectl', ...words, '-n', 'echo')
  const readyPods = ({ stdout }: { stdout: string }) =>
    stdout.split('\n').filter(line => line.includes('1/1')).length

  t.match(await kubectl('patch', 'deployment', 'echo', '-p', '{"spec":{"replicas":1}}'), {
    code: 0,
    stdout: /patched/
  })
  const fewer = await lab.until(
    output => output.stdout.trim().split('\n').length === 2,
    'kubectl',
    'get',
    'pods',
    '-n',
    'echo',
    '-l',
    'app=echo'
  )
  t.equal(readyPods(fewer), 1)
  await kubectl('delete', 'pod', '-l', 'app=echo')
  const again = await kubectl('wait', 'deployment', 'echo', '--for=condition=Available', '--timeout=30s')
  t.match(again.stdout, /condition met/, 'a deleted pod comes back')
  t.match(await kubectl('label', 'ns', 'echo', 'a=b'), { code: 0, stdout: /labeled/ })
  t.match(await kubectl('annotate', 'svc/echo', 'x.org/y=z'), { code: 0 })
  t.match((await kubectl('get', 'svc', 'echo', '-o', 'yaml')).stdout, 'x.org/y: z')
  t.match((await kubectl('logs', 'db-0')).stdout, '')
  t.match(await kubectl('get', 'nonsense'), { code: 1, stderr: /doesn't have a resource type "nonsense"/ })
  t.match(await kubectl('get', 'pod', 'nobody'), { code: 1, stderr: /not found/ })

  const traces = lab.traces()
  lab.child.kill('SIGINT')
  t.equal((await lab.ended()).code, 0, 'Ctrl-C ends it in order')
  t.strictSame(await remains(traces), [])
})

t.test('an error, or the end of the cluster itself, leaves nothing', { skip }, async t => {
  const bad = path.join(
    t.testdir({ 'bad.yaml': 'apiVersion: example.org/v1\nkind: Strange\nmetadata: {name: x}\n' }),
    'bad.yaml'
  )
  const failing = new LabProcess(t, user, ['up', '--no-mesh', '-f', bad])
  await failing.printed('cluster with 2 nodes')
  const traces = failing.traces()
  t.match(await failing.ended(), {
    code: 1,
    stderr: /bad\.yaml:1: the API has no Strange of example.org\/v1; .*CustomResourceDefinition/
  })
  t.strictSame(await remains(traces), [])

  const lab = new LabProcess(t, user, ['up', '--no-mesh', '--nodes', '1'])
  await lab.printed('ready.')
  const own = lab.traces()
  process.kill(readState(lab.folder)?.inside ?? 0, 'SIGKILL')
  t.match(await lab.ended(), { code: 1, stdout: /the cluster ended by itself/ })
  t.strictSame(await remains(own), [])
})

t.test('what a killed lab left is no lab, and goes without anything of others', async t => {
  const folder = path.join(t.testdir({ lab: { 'precious.txt': 'mine' } }), 'lab')
  const state = { pid: process.pid, startedAt: '1', inside: 1, ready: true }
  writeFileSync(path.join(folder, 'state.json'), JSON.stringify(state))
  writeFileSync(path.join(folder, 'kubeconfig'), '')
  t.equal(readState(folder), undefined, 'the process id was given out again')
  removeState(folder)
  t.strictSame(readdirSync(folder), ['precious.txt'])
  execFileSync('sh', ['-c', `${removeStateScript} 2>/dev/null; true`], {
    env: { ...process.env, state: folder }
  })
  t.strictSame(readdirSync(folder), ['precious.txt'], 'nor does the reaper touch it')
  rmSync(path.join(folder, 'precious.txt'))
  removeState(folder)
  t.notOk(existsSync(folder))
})
