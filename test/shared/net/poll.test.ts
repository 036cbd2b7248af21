import t from 'tap'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { libc } from '../../../shared/net/ffi.ts'
import { Poller } from '../../../shared/net/poll.ts'

const poll = path.join(import.meta.dirname, '../../../shared/net/poll.ts')
const EFD_NONBLOCK = 0o4000

/** Runs a program with an open poller; it would hang at its end if the thread slept on. */
function run(code: string): { status: number | null; signal: string | null; stdout: string } {
  const program = `const { Poller } = await import(${JSON.stringify(poll)}); const poller = new Poller(); ${code}`
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    timeout: 20_000
  })
}

t.test('a process with an open poller ends when it wants to', async t => {
  t.match(run('console.log("done")'), { status: 0, signal: null, stdout: /done/ })
  t.match(run('process.exit(3)'), { status: 3, signal: null })
  t.match(run('throw new Error("bug")'), { status: 1, signal: null })
})

t.test('each arming is answered once, when there is something', async t => {
  const poller = new Poller()
  t.teardown(() => poller.close())
  const fd = libc.eventfd(0, EFD_NONBLOCK)
  const one = Buffer.alloc(8)
  one.writeUInt8(1)
  let calls = 0
  let called: () => void = () => undefined
  const next = (): Promise<void> => new Promise(resolve => (called = resolve))
  const watch = poller.watch(fd, () => {
    calls++
    called()
  })
  const writable = next()
  watch.arm({ read: false, write: true })
  await writable
  t.equal(calls, 1)

  const readable = next()
  watch.arm({ read: true, write: false })
  libc.write(fd, one, 8)
  await readable
  t.equal(calls, 2, 'it is still readable, but nobody asked again')

  const again = next()
  watch.arm({ read: true, write: false })
  await again
  t.equal(calls, 3)

  watch.stop()
  watch.arm({ read: true, write: false })
  watch.stop()
  libc.close(fd)
})

t.test('a descriptor that cannot be polled is refused by name', async t => {
  const poller = new Poller()
  t.throws(() => poller.watch(-1, () => undefined), { call: 'epoll_ctl', code: 'EBADF' })
  await poller.close()
  await poller.close()
  t.throws(() => poller.watch(0, () => undefined), /closed/)
})
