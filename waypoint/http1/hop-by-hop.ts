/** Fields that concern one connection only: RFC 9110 section 7.6.1, RFC 9112 section 9. */
import type { HttpVersion } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'

/** Never passed on, whether Connection names them or not. */
const hopByHop = ['connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade']
/** Named in Connection they stay all the same: a client must not be able to take away what policies look at. */
const endToEnd = new Set([
  'host',
  'content-length',
  'content-type',
  'authorization',
  'cookie',
  'cache-control'
])

export function keepsConnection(headers: HeaderList, version: HttpVersion): boolean {
  const options = optionsOf(headers)
  return options.includes('close') ? false : version === 'HTTP/1.1' || options.includes('keep-alive')
}

/** The protocol to switch to, in lower case, where Connection says that Upgrade is meant for us. */
export function upgradeOf(headers: HeaderList): string | undefined {
  if (!optionsOf(headers).includes('upgrade')) return undefined
  return headers.get('upgrade')?.toLowerCase()
}

/** Takes out what is for this connection. `te: trailers` stays for gRPC, which asks for it end to end. */
export function removeHopByHop(headers: HeaderList): void {
  const trailers =
    headers.has('te') && headers.members('te').some(member => member.toLowerCase() === 'trailers')
  for (const name of optionsOf(headers)) if (!endToEnd.has(name)) headers.remove(name)
  for (const name of hopByHop) headers.remove(name)
  if (trailers) headers.set('te', 'trailers')
}

function optionsOf(headers: HeaderList): readonly string[] {
  return headers.has('connection') ? headers.members('connection').map(option => option.toLowerCase()) : []
}
