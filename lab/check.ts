/** `lab check`: tries what a lab needs, as this user, and names the fix for what fails. */
import { existsSync } from 'node:fs'
import { textIfThere } from '../shared/runtime/read-if-there.ts'
import { run } from './command.ts'
import { unshareWords } from './isolate.ts'

export interface Requirement {
  readonly name: string
  readonly ok: boolean
  /** What was found. */
  readonly detail: string
  /** What to do when it is not ok. */
  readonly remedy: string
}

export interface CheckContext {
  readonly isRoot: boolean
  readonly environment: NodeJS.ProcessEnv
}

const programs = {
  'util-linux': ['unshare', 'nsenter', 'setpriv', 'mount', 'umount', 'pivot_root'],
  iproute2: ['ip'],
  nftables: ['nft']
} as const

/** Quick, and the same list whatever fails: what cannot be tried because of another failure says so. */
export async function requirements(context: CheckContext): Promise<Requirement[]> {
  const { PATH = '' } = context.environment
  const searchPath = `${PATH}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`
  const missing = Object.entries(programs).flatMap(([packageName, names]) =>
    names.filter(name => !isInstalled(name, searchPath)).map(name => ({ name, packageName }))
  )
  const installed: Requirement = {
    name: 'programs',
    ok: missing.length === 0,
    detail: missing.length === 0 ? 'all there' : `missing: ${missing.map(({ name }) => name).join(', ')}`,
    remedy: `install them, for example: sudo apt-get install -y ${[...new Set(missing.map(({ packageName }) => packageName))].join(' ')}`
  }
  const platform: Requirement = {
    name: 'system',
    ok: process.platform === 'linux',
    detail: process.platform,
    remedy:
      'run it in a Linux container or virtual machine, for example: docker run --privileged -it -v "$PWD:/src" -w /src node:24 npm run demo'
  }
  if (!installed.ok || !platform.ok) return [platform, installed]
  return [platform, installed, ...(await tryNamespaces(context, searchPath))]
}

/** One attempt after the other, each on top of what the former proved. */
async function tryNamespaces({ isRoot }: CheckContext, searchPath: string): Promise<Requirement[]> {
  const attempts: readonly (readonly [name: string, script: string])[] = [
    ['namespaces', 'true'],
    ['private mounts', 'mount -t tmpfs tmpfs /run && mkdir -p /run/netns'],
    [
      'network links',
      'mount -t tmpfs tmpfs /run && ip netns add probe && ip link add probe0 type veth peer name probe1 netns probe && ip link add probe2 type bridge'
    ],
    [
      'packet rules',
      'nft add table ip probe && nft "add chain ip probe out { type nat hook output priority -100; }"'
    ]
  ]
  const found: Requirement[] = []
  for (const [name, script] of attempts) {
    const [command, ...args] = [...unshareWords(isRoot), 'sh', '-c', script]
    try {
      await run(command, args, { env: { PATH: searchPath }, signal: AbortSignal.timeout(10_000) })
      found.push({ name, ok: true, detail: isRoot ? 'as root' : 'as an ordinary user', remedy: '' })
    } catch (error) {
      const detail = (error as Error).message
      found.push({ name, ok: false, detail, remedy: remedyFor(name, isRoot, readSetting) })
      break
    }
  }
  return found
}

/** The fix for a failed attempt, from what the kernel's settings say; `read` gives a file's text or undefined. */
export function remedyFor(name: string, isRoot: boolean, read: (file: string) => string | undefined): string {
  const inContainer = 'in a container, start it with --privileged (Docker) or as a privileged pod'
  if (isRoot) {
    return name === 'packet rules' || name === 'network links'
      ? `the kernel lacks nftables, veth or bridge, or this root lacks NET_ADMIN; ${inContainer}`
      : `this root lacks CAP_SYS_ADMIN; ${inContainer}`
  }
  if (read('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === '1') {
    return 'AppArmor restricts user namespaces (Ubuntu): sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run the lab with sudo'
  }
  if (read('/proc/sys/kernel/unprivileged_userns_clone') === '0') {
    return 'user namespaces are switched off: sudo sysctl -w kernel.unprivileged_userns_clone=1, or run the lab with sudo'
  }
  if (read('/proc/sys/user/max_user_namespaces') === '0') {
    return 'user namespaces are switched off: sudo sysctl -w user.max_user_namespaces=15000, or run the lab with sudo'
  }
  return `user namespaces are not allowed here: run the lab with sudo; ${inContainer}`
}

export function formatRequirements(found: readonly Requirement[]): string {
  const width = Math.max(...found.map(({ name }) => name.length))
  return found
    .map(({ name, ok, detail, remedy }) =>
      ok
        ? `ok    ${name.padEnd(width)}  ${detail}`
        : `FAIL  ${name.padEnd(width)}  ${detail}\n      fix: ${remedy}`
    )
    .join('\n')
}

function isInstalled(program: string, searchPath: string): boolean {
  return searchPath.split(':').some(folder => folder !== '' && existsSync(`${folder}/${program}`))
}

function readSetting(file: string): string | undefined {
  return textIfThere(file)?.trim()
}
