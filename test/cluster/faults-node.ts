/** Does harm to the parts of a disposable cluster. */
import { execFileSync } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'

/** The API server does not answer for so long: its process, on this machine, is stopped and goes on. */
export async function hangApiServer({ kubectl }: Cluster, seconds: number): Promise<void> {
  const server = await kubectl(['config', 'view', '--minify', '-o', 'jsonpath={.clusters[0].cluster.server}'])
  const listeners = execFileSync('ss', ['-Htlnp', `sport = :${new URL(server).port}`], { encoding: 'utf8' })
  const pid = Number(/"kube-apiserver",pid=(\d+)/.exec(listeners)?.[1])
  if (Number.isNaN(pid)) throw new Error(`who listens at ${server}? ${listeners}`)
  process.kill(pid, 'SIGSTOP')
  try {
    await delay(seconds * 1000) // the length of the fault
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  await eventually(
    'the API server is back',
    async () => (await kubectl(['get', '--raw', '/readyz'])) === 'ok'
  )
}

/** As the kernel does when memory runs out. Resolves when the process is gone. */
export async function killZtunnel({ onNode }: Cluster, node: string): Promise<void> {
  await onNode(
    node,
    `pid=$(pgrep -o -f '[z]tunnel/main.js') && kill -9 $pid && while [ -d /proc/$pid ]; do sleep 0.05; done`
  )
}

export async function descriptorsOfAgent({ onNode }: Cluster, node: string): Promise<number> {
  return Number(await onNode(node, `ls /proc/$(pgrep -o -f '[d]aemonset/main.js')/fd | wc -l`))
}

export interface FullDisk {
  /** Makes room. */
  free(): Promise<void>
  /** Puts the folder back that was there before. */
  restore(): Promise<void>
}

/**
 * The folder of network configurations is on a small disk of its own, with the file that a node has without the mesh,
 * and with no room for more. Whoever has the old folder open stays there, as the container runtime does.
 */
export async function fillConfigurationDisk({ onNode }: Cluster, node: string): Promise<FullDisk> {
  const folder = '/etc/cni/net.d'
  const file = `${folder}/10-bridge.conflist`
  const primary = JSON.parse(await onNode(node, `cat ${file}`)) as { plugins: { type: string }[] }
  primary.plugins = primary.plugins.filter(({ type }) => type !== 'istio-cni')
  await onNode(
    node,
    `set -e
    mount -t tmpfs -o size=16k,mode=755 full-disk ${folder}
    cat > ${file} <<'X'\n${JSON.stringify(primary)}\nX
    ! dd if=/dev/zero of=${folder}/somebodys.log bs=1k 2> /dev/null`
  )
  return {
    async free() {
      await onNode(node, `rm ${folder}/somebodys.log`)
    },
    async restore() {
      await onNode(node, `umount ${folder}`)
    }
  }
}
