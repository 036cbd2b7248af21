import t from 'tap'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { ip } from '../../shared/net/address.ts'
import { closeNetns, netnsId } from '../../shared/net/netns.ts'
import {
  allNetns,
  findPodNetns,
  openGivenNetns,
  podUidOfCgroup,
  startTime
} from '../../daemonset/pod-netns.ts'
import { makeNamespace, needsRoot } from '../support/namespaces.ts'

const uid = '0f3c1e9a-5b7d-4c21-9e44-8b1f6a2d7c30'
const container = 'a'.repeat(64)
const underscored = uid.replaceAll('-', '_')

const cgroups: readonly { name: string; text: string; uid: string | undefined }[] = [
  {
    name: 'version 2, systemd, containerd',
    text: `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${underscored}.slice/cri-containerd-${container}.scope\n`,
    uid
  },
  {
    name: 'version 2, guaranteed pod, CRI-O',
    text: `0::/kubepods.slice/kubepods-pod${underscored}.slice/crio-${container}.scope\n`,
    uid
  },
  {
    name: 'version 2, a cgroup of its own below the container',
    text: `0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${underscored}.slice/cri-containerd-${container}.scope/init\n`,
    uid
  },
  {
    name: 'version 1, cgroupfs, several lines',
    text: `12:pids:/kubepods/besteffort/pod${uid}/${container}\n11:memory:/kubepods/besteffort/pod${uid}/${container}\n`,
    uid
  },
  {
    name: 'version 1, docker below systemd',
    text: `3:cpu:/kubepods.slice/kubepods-pod${underscored}.slice/docker-${container}.scope\n`,
    uid
  },
  {
    name: 'kind: a node that is itself a container',
    text: `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod${underscored}.slice/cri-containerd-${container}.scope\n`,
    uid
  },
  {
    name: 'containerd with its own notation',
    text: `0::/kubepods-pod${underscored}.slice:cri-containerd:${container}\n`,
    uid
  },
  {
    name: 'the monitor of CRI-O, which is no container',
    text: `0::/kubepods.slice/kubepods-pod${underscored}.slice/crio-conmon-${container}.scope\n`,
    uid: undefined
  },
  { name: 'a service of the machine', text: '0::/system.slice/sshd.service\n', uid: undefined },
  { name: 'a process of nobody', text: '0::/\n', uid: undefined },
  { name: 'a pod without container', text: `0::/kubepods/pod${uid}\n`, uid: undefined }
]

for (const { name, text, uid } of cgroups) {
  t.test(`cgroup: ${name}`, async t => t.equal(podUidOfCgroup(text), uid))
}

t.test('the start time stands behind a name with anything in it', async t => {
  const fields = Array.from({ length: 40 }, (_, index) => String(index + 4)).join(' ')
  t.equal(startTime(`7 (a) b (c)) S ${fields}`), 22)
})

t.test('namespaces of pods', { skip: needsRoot() }, async t => {
  const [pod, other, nested] = [0, 1, 2].map(() => makeNamespace(t, 'uph3'))
  if (pod === undefined || other === undefined || nested === undefined) return
  pod.run('ip', 'addr', 'add', '10.231.0.7/32', 'dev', 'lo')
  other.run('ip', 'addr', 'add', '10.231.0.8/32', 'dev', 'lo')
  nested.run('ip', 'addr', 'add', '172.17.0.2/32', 'dev', 'lo')
  const wanted = { uid, addresses: [ip('10.231.0.7')] }

  await t.test('are found by name in the folder where one holds the address', async t => {
    const folder = t.testdir({ netns: {}, proc: {} })
    const places = { netnsDir: path.join(folder, 'netns'), procDir: path.join(folder, 'proc') }
    for (const [name, space] of Object.entries({ 'cni-1': other, 'cni-2': pod })) {
      symlinkSync(space.path, path.join(places.netnsDir, name))
    }
    writeFileSync(path.join(places.netnsDir, 'junk'), '')
    const found = findPodNetns(places, wanted)
    t.equal(found?.path, path.join(places.netnsDir, 'cni-2'))
    t.equal(found === undefined ? '' : netnsId(found.fd), netnsId(pod.fd))
    if (found !== undefined) closeNetns(found.fd)
    t.equal(findPodNetns(places, { uid, addresses: [ip('10.231.0.9')] }), undefined)
  })

  await t.test('are found through the oldest process that is in one with the address', async t => {
    const folder = t.testdir({ netns: {}, proc: {} })
    const procDir = path.join(folder, 'proc')
    const cgroup = `0::/kubepods.slice/kubepods-pod${underscored}.slice/cri-containerd-${container}.scope\n`
    const process = (pid: number, space: string, text: string, started: number): void => {
      mkdirSync(path.join(procDir, `${pid}/ns`), { recursive: true })
      symlinkSync(space, path.join(procDir, `${pid}/ns/net`))
      writeFileSync(path.join(procDir, `${pid}/cgroup`), text)
      const fields = ['S', ...Array.from({ length: 18 }, () => '0'), String(started), '0']
      writeFileSync(path.join(procDir, `${pid}/stat`), `${pid} (app) ${fields.join(' ')}`)
    }
    process(1, '/proc/thread-self/ns/net', '0::/init.scope\n', 1)
    process(20, nested.path, cgroup, 100) // docker in the pod, and older than the restarted application
    process(30, pod.path, cgroup, 200)
    process(40, other.path, '0::/system.slice/x.service\n', 50)
    const places = { netnsDir: path.join(folder, 'netns'), procDir }
    const found = findPodNetns(places, wanted)
    t.equal(found?.path, path.join(procDir, '30/ns/net'))
    if (found !== undefined) closeNetns(found.fd)

    const next = { uid: '11111111-2222-3333-4444-555555555555', addresses: wanted.addresses }
    symlinkSync(pod.path, path.join(places.netnsDir, 'cni-1'))
    t.equal(
      findPodNetns(places, next),
      undefined,
      'an address does not lead into the namespace of another pod'
    )
    const own = ip('127.0.0.1')
    symlinkSync('/proc/1/ns/net', path.join(places.netnsDir, 'default'))
    t.equal(findPodNetns(places, { uid: next.uid, addresses: [own] }), undefined, "the machine's is no pod's")

    const all = [...allNetns(places)]
    t.strictSame(
      new Set(all.map(({ fd }) => netnsId(fd))),
      new Set([pod, other, nested].map(({ fd }) => netnsId(fd))),
      'each once, the machine not'
    )
    for (const { fd } of all) closeNetns(fd)
  })

  await t.test('are taken by name where the folder is mounted elsewhere', async t => {
    const folder = t.testdir({})
    symlinkSync(pod.path, path.join(folder, 'cni-1'))
    const places = { netnsDir: folder, procDir: '/proc' }
    const opened = openGivenNetns(places, '/run/of/the/machine/cni-1')
    t.equal(netnsId(opened.fd), netnsId(pod.fd))
    closeNetns(opened.fd)
    t.throws(() => openGivenNetns(places, '/run/of/the/machine/cni-2'), { code: 'ENOENT' })
  })
})
