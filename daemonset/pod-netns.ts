/**
 * Finds the network namespace of a pod that runs: by name in a folder of namespaces, else through its processes.
 * Either way it counts only if it holds one of the pod's addresses and no other pod's processes: nested containers,
 * pods that see the host's processes and addresses that are used again could otherwise lead into a foreign namespace.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import path from 'node:path'
import { type Ip, parseIp } from '../shared/net/address.ts'
import { closeNetns, inNetns, netnsId, openNetns } from '../shared/net/netns.ts'

export interface NetnsPlaces {
  /** Where runtimes keep namespaces by name, such as /var/run/netns. */
  readonly netnsDir: string
  /** The machine's /proc, where it is mounted for us. */
  readonly procDir: string
}

export interface PodNetns {
  /** Open; it keeps the namespace alive until it is closed. */
  readonly fd: number
  readonly path: string
}

export interface SoughtPod {
  readonly uid: string
  readonly addresses: readonly Ip[]
}

/** Opens the namespace of a pod; undefined when none that is not somebody else's holds one of its addresses. */
export function findPodNetns(places: NetnsPlaces, pod: SoughtPod): PodNetns | undefined {
  return surveyNetns(places).find(pod)
}

export interface NetnsSurvey {
  find(pod: SoughtPod): PodNetns | undefined
}

/** One look at all named namespaces and processes, for many pods at the start. It ages: namespaces come and go. */
export function surveyNetns(places: NetnsPlaces): NetnsSurvey {
  const machine = machineNetns(places)
  const processes = processesOf(places)
  const named = namedByAddress(places)
  /** UIDs of the pods that have a process in a namespace. */
  const owners = new Map<string, Set<string>>()
  for (const { id, pod } of processes) {
    if (pod !== undefined) owners.set(id, (owners.get(id) ?? new Set()).add(pod))
  }
  return {
    find: ({ uid, addresses }) => {
      const wanted = new Set(addresses)
      const fits = (fd: number): boolean => {
        const id = netnsId(fd)
        if (machine.has(id)) return false
        // Addresses are used again within a second: whose processes are inside says more than an address does.
        const pods = owners.get(id)
        if (pods !== undefined && !pods.has(uid)) return false
        return addressesIn(fd).some(address => wanted.has(address))
      }
      const own = processes.filter(({ pod }) => pod === uid).toSorted((a, b) => a.started - b.started)
      const candidates = new Set([
        ...addresses.flatMap(address => named.get(address) ?? []),
        ...own.map(({ path }) => path)
      ])
      for (const candidate of candidates) {
        const found = openIf(candidate, fits)
        if (found !== undefined) return found
      }
      return undefined
    }
  }
}

/** Paths of the named namespaces by the addresses inside. */
function namedByAddress(places: NetnsPlaces): ReadonlyMap<Ip, readonly string[]> {
  const index = new Map<Ip, string[]>()
  for (const candidate of namedNetns(places)) {
    openIf(candidate, fd => {
      for (const address of addressesIn(fd)) index.set(address, [...(index.get(address) ?? []), candidate])
      return false
    })
  }
  return index
}

/** Every namespace that can be found, once each; the machine's own is not among them. */
export function* allNetns(places: NetnsPlaces): Generator<PodNetns> {
  const seen = machineNetns(places)
  for (const candidate of [...namedNetns(places), ...processesOf(places).map(({ path }) => path)]) {
    const found = openIf(candidate, fd => !seen.has(netnsId(fd)))
    if (found === undefined) continue
    seen.add(netnsId(found.fd))
    yield found
  }
}

/** Addresses of all interfaces inside, loopback included. */
export function addressesIn(netns: number): readonly Ip[] {
  return inNetns(netns, () =>
    Object.values(networkInterfaces()).flatMap(entries =>
      (entries ?? []).flatMap(({ address }) => parseIp(address.replace(/%.*$/, '')) ?? [])
    )
  )
}

/**
 * Opens the namespace that a runtime named. Where its folder is mounted elsewhere for us, the entry of the same name
 * is taken. Throws when there is none.
 */
export function openGivenNetns(places: NetnsPlaces, given: string): PodNetns {
  try {
    return { fd: openNetns(given), path: given }
  } catch (error) {
    const mounted = path.join(places.netnsDir, path.basename(given))
    if (mounted === given) throw error
    return { fd: openNetns(mounted), path: mounted }
  }
}

function* namedNetns({ netnsDir }: NetnsPlaces): Generator<string> {
  for (const name of listed(netnsDir)) yield path.join(netnsDir, name)
}

interface PodProcess {
  /** Of its namespace: what {@link netnsId} gives for it. */
  readonly id: string
  readonly path: string
  /** UID of the pod that it belongs to; undefined for a process outside of pods. */
  readonly pod: string | undefined
  readonly started: number
}

/** Every process that is in a namespace of its own, which is not the machine's. */
function processesOf(places: NetnsPlaces): readonly PodProcess[] {
  const machine = machineNetns(places)
  return listed(places.procDir)
    .filter(name => /^\d+$/.test(name))
    .flatMap(pid => {
      const folder = path.join(places.procDir, pid)
      const process = attempt(() => {
        const { dev, ino } = statSync(path.join(folder, 'ns/net'), { bigint: true })
        const id = `${dev}:${ino}`
        if (machine.has(id)) return undefined
        return {
          id,
          path: path.join(folder, 'ns/net'),
          pod: podUidOfCgroup(readFileSync(path.join(folder, 'cgroup'), 'utf8')),
          started: startTime(readFileSync(path.join(folder, 'stat'), 'utf8'))
        }
      })
      return process ?? []
    })
}

/**
 * The pod that a process belongs to, from /proc/<pid>/cgroup (version 1: many lines, version 2: one): a folder
 * `pod<uid>` followed by the container's, with `-` or `_` in the uid. Undefined for processes outside of pods.
 */
export function podUidOfCgroup(text: string): string | undefined {
  const form =
    /pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?[/:](?!crio-conmon)(?:[a-z-]+[-:])*[0-9a-f]{64}(?:\.scope)?(?:\/|$)/m
  return form.exec(text)?.[1]?.replaceAll('_', '-')
}

/** Field 22 of /proc/<pid>/stat; the second field may hold spaces and parentheses. */
export function startTime(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 0)
}

/** Ids of the namespaces that are no pod's: our own and that of process 1, where we may look at it. */
function machineNetns({ procDir }: NetnsPlaces): Set<string> {
  const paths = ['/proc/thread-self/ns/net', path.join(procDir, '1/ns/net')]
  return new Set(
    paths.flatMap(file => {
      const found = attempt(() => statSync(file, { bigint: true }))
      return found === undefined ? [] : [`${found.dev}:${found.ino}`]
    })
  )
}

function openIf(candidate: string, fits: (fd: number) => boolean): PodNetns | undefined {
  return attempt(() => {
    const fd = openNetns(candidate)
    let kept = false
    try {
      kept = fits(fd)
      return kept ? { fd, path: candidate } : undefined
    } finally {
      if (!kept) closeNetns(fd)
    }
  })
}

function listed(folder: string): readonly string[] {
  return attempt(() => readdirSync(folder)) ?? []
}

/** Processes and namespaces vanish while one looks; what cannot be read is no candidate. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
