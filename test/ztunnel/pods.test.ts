import t from 'tap'
import { fstatSync, openSync } from 'node:fs'
import { silent } from '../../shared/telemetry/logger.ts'
import { Metrics } from '../../shared/telemetry/metrics.ts'
import { mainFamilies } from '../../ztunnel/families.ts'
import type { PodDescription } from '../../ztunnel/pod.ts'
import { Pods } from '../../ztunnel/pods.ts'
import type { QuestionKind, Questions } from '../../ztunnel/worker-protocol.ts'

const info = { name: 'web-1', namespace: 'shop', serviceAccount: 'web' }

t.test('a pod that starts in every worker is up', async t => {
  const { pods, asked, values } = world()
  await pods.add(pod('1'))
  t.match(asked, [['startPod', { uid: '1' }]])
  t.match(pods.states(), [{ uid: '1', state: 'Up', info }])
  t.ok(pods.settled)
  t.match(values(), {
    workload_manager_active_proxy_count: 1,
    workload_manager_pending_proxy_count: 0,
    workload_manager_proxies_started_total: 1
  })
})

t.test('the same pod in the same namespace is left alone, and its second descriptor closed', async t => {
  const { pods, asked } = world()
  const [first, second] = [pod('1'), pod('1')]
  await pods.add(first)
  await pods.add(second)
  t.equal(asked.length, 1)
  t.ok(isOpen(first.netns))
  t.notOk(isOpen(second.netns))
})

t.test('the same pod in another namespace is replaced', async t => {
  const { pods, asked } = world()
  const first = pod('1')
  await pods.add(first)
  await pods.add(pod('1', '/proc/self/ns/mnt')) // any other namespace
  t.match(asked, [['startPod'], ['stopPod'], ['startPod']])
  t.notOk(isOpen(first.netns))
})

t.test('a pod that fails is taken back from all workers, pending, and reported', async t => {
  const { pods, asked, fail, values } = world()
  fail.startPod = 'bind: address in use'
  await t.rejects(pods.add(pod('1')), { message: 'bind: address in use' })
  t.match(asked, [['startPod'], ['stopPod', { uid: '1' }]])
  t.match(pods.states(), [{ state: 'Pending', error: 'bind: address in use' }])
  t.notOk(pods.settled)
  t.match(values(), {
    workload_manager_active_proxy_count: 0,
    workload_manager_pending_proxy_count: 1,
    workload_manager_proxies_started_total: undefined
  })
  pods.close()
})

t.test('a pod that is removed is closed everywhere, with its descriptor', async t => {
  const { pods, asked, gone, values } = world()
  const one = pod('1')
  await pods.add(one)
  await pods.add(pod('2'))
  await pods.remove('1')
  t.match(asked.at(-1), ['stopPod', { uid: '1' }])
  t.notOk(isOpen(one.netns))
  t.strictSame(gone, [], 'another pod has that account still')
  await pods.remove('2')
  t.match(gone, [info])
  t.match(values(), { workload_manager_proxies_stopped_total: 2 })
  await pods.remove('3')
})

t.test('accounts are those of the pods that are here', async t => {
  const { pods } = world()
  await pods.add(pod('1'))
  t.ok(pods.runsAs({ namespace: 'shop', serviceAccount: 'web' }))
  t.notOk(pods.runsAs({ namespace: 'shop', serviceAccount: 'other' }))
  await pods.remove('1')
  t.notOk(pods.runsAs({ namespace: 'shop', serviceAccount: 'web' }))
})

function pod(uid: string, namespace = '/proc/self/ns/net'): PodDescription & { netns: number } {
  return { uid, info, netns: openSync(namespace, 'r'), self: false }
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd)
    return true
  } catch {
    return false // EBADF is what is asked for
  }
}

function world(): {
  pods: Pods
  asked: [QuestionKind, unknown][]
  fail: Partial<Record<QuestionKind, string>>
  gone: unknown[]
  values: () => Record<string, number | undefined>
} {
  const asked: [QuestionKind, unknown][] = []
  const fail: Partial<Record<QuestionKind, string>> = {}
  const gone: unknown[] = []
  const metrics = new Metrics(mainFamilies)
  const workers = {
    askAll: async <K extends QuestionKind>(
      question: K,
      value: Questions[K]['ask']
    ): Promise<Questions[K]['answer'][]> => {
      asked.push([question, value])
      const problem = fail[question]
      if (problem !== undefined) throw new Error(problem)
      return [{ ports: [1, 2, 3] }]
    }
  }
  const pods = new Pods({
    workers,
    metrics,
    log: silent,
    onGone: account => gone.push(account),
    onChange: () => undefined
  })
  t.teardown(() => {
    pods.close()
  })
  const values = (): Record<string, number | undefined> =>
    Object.fromEntries(metrics.snapshot().map(({ name, rows }) => [name, rows[0]?.value]))
  return { pods, asked, fail, gone, values }
}
