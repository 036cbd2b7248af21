/**
 * Finds out how traffic can be captured on this machine, by doing it: in a namespace that nobody else has, with a
 * connection in and one out, for each IP family that there is. Kernels lack modules, distributions lack programs,
 * and asking for versions tells neither.
 */
import net from 'node:net'
import { once } from 'node:events'
import { type Family, ip, type Ip, ipFamily, parseIp, type SocketAddress } from '../shared/net/address.ts'
import { closeNetns, createNetns } from '../shared/net/netns.ts'
import {
  boundAddress,
  dialerSocket,
  openDialer,
  openListener,
  originalDestination,
  socketFd
} from '../shared/net/sockets.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { applyCapture, type CaptureMethod } from './rules/capture.ts'
import { capturePorts, proxyMark } from './rules/desired.ts'
import { familiesOf, iptablesPrograms } from './rules/iptables.ts'
import { mustRun } from './run-command.ts'

export interface MethodWish {
  readonly mode: 'auto' | CaptureMethod['mode']
  readonly backend: 'auto' | 'nft' | 'iptables'
}

export interface MethodSearch {
  readonly method: CaptureMethod | undefined
  /** Why each method that was tried before does not work here. */
  readonly failures: readonly { readonly method: CaptureMethod; readonly problem: string }[]
}

const connectTimeoutMs = 2000
const addresses: Readonly<Record<Family, { readonly pod: Ip; readonly peer: Ip; readonly bits: number }>> = {
  4: { pod: ip('192.0.2.2'), peer: ip('192.0.2.1'), bits: 24 },
  6: { pod: ip('2001:db8::2'), peer: ip('2001:db8::1'), bits: 64 }
}

/** The first that works of those that are wished for: TPROXY before REDIRECT, nft before iptables. */
export async function findCaptureMethod(wish: MethodWish): Promise<MethodSearch> {
  const failures: MethodSearch['failures'][number][] = []
  for (const method of candidates(wish)) {
    const problem = await tryMethod(method)
    if (problem === undefined) return { method, failures }
    failures.push({ method, problem })
  }
  return { method: undefined, failures }
}

export function candidates({ mode, backend }: MethodWish): readonly CaptureMethod[] {
  const modes = mode === 'auto' ? (['tproxy', 'redirect'] as const) : [mode]
  const backends = [
    ...(backend === 'iptables' ? [] : ['nft' as const]),
    ...(backend === 'nft' ? [] : iptablesPrograms)
  ]
  return modes.flatMap(mode => backends.map(backend => ({ backend, mode })))
}

/** Undefined when connections are captured in both directions, else what went wrong. */
async function tryMethod(method: CaptureMethod): Promise<string | undefined> {
  const pod = createNetns()
  const peer = createNetns()
  try {
    const families = familiesOf(pod)
    await join(pod, peer, families)
    await applyCapture(pod, method, {
      mode: method.mode,
      inbound: true,
      dns: false,
      virtualInterfaces: [],
      probeAddresses: [],
      leakGuard: true
    })
    for (const family of families) {
      const at = addresses[family]
      await expectCapture('inbound', { listener: pod, client: peer, port: capturePorts.inbound, to: at.pod })
      await expectCapture('outbound', {
        listener: pod,
        client: pod,
        port: capturePorts.outbound,
        to: at.peer
      })
    }
    return undefined
  } catch (error) {
    return messageOf(error)
  } finally {
    closeNetns(pod)
    closeNetns(peer)
  }
}

async function join(pod: number, peer: number, families: readonly Family[]): Promise<void> {
  // The two have no names, so nothing is left if we die here; ip gets the second one as its descriptor 3.
  const link = 'link add probe0 type veth peer name probe0 netns /proc/self/fd/3'
  await mustRun(pod, 'ip', link.split(' '), { descriptor: peer })
  for (const [netns, side] of [
    [pod, 'pod'],
    [peer, 'peer']
  ] as const) {
    const lines = families.map(family => {
      const at = addresses[family]
      return `addr add ${at[side]}/${at.bits} dev probe0${family === 6 ? ' nodad' : ''}`
    })
    await mustRun(netns, 'ip', ['-batch', '-'], {
      input: `link set lo up\n${lines.join('\n')}\nlink set probe0 up\n`
    })
  }
}

interface Expectation {
  readonly listener: number
  readonly client: number
  readonly port: number
  readonly to: Ip
}

/** Dials a port where nobody listens; the capture listener has to get the connection and to know where it went. */
async function expectCapture(direction: string, { listener, client, port, to }: Expectation): Promise<void> {
  const target: SocketAddress = { ip: to, port: 4240 }
  const family = ipFamily(to)
  const fd = openListener(
    { netns: listener, mark: proxyMark },
    { address: { ip: ip(family === 4 ? '0.0.0.0' : '::'), port }, transparent: true }
  )
  const server = net.createServer()
  server.listen({ fd })
  const socket = dialerSocket(openDialer({ netns: client }, { family }))
  const failed = new Promise<never>((_, reject) => {
    socket.on('error', error => reject(new Error(`${direction} IPv${family}: ${error.message}`)))
    socket.setTimeout(connectTimeoutMs, () => {
      reject(new Error(`${direction} IPv${family}: the connection did not reach the capture port`))
    })
  })
  try {
    const accepted = once(server, 'connection') as Promise<[net.Socket]>
    socket.connect({ host: to, port: target.port })
    const [captured] = await Promise.race([accepted, failed])
    const seen = destinationOf(captured)
    captured.destroy()
    if (seen?.ip !== target.ip || seen.port !== target.port) {
      throw new Error(`${direction} IPv${family}: the original destination was lost`)
    }
  } finally {
    socket.destroy()
    server.close()
  }
}

function destinationOf(socket: net.Socket): SocketAddress | undefined {
  const fd = socketFd(socket)
  if (fd === undefined) return undefined
  const local = boundAddress(fd)
  if (local?.port !== capturePorts.inbound && local?.port !== capturePorts.outbound) {
    const address = parseIp(socket.localAddress ?? '')
    return address === undefined ? undefined : { ip: address, port: socket.localPort ?? 0 }
  }
  return originalDestination(fd)
}
