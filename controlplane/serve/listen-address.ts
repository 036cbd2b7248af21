/** The address to listen on: `::` takes both families, but not on a machine without IPv6. */
import net from 'node:net'
import { ip, type Ip } from '../../shared/net/address.ts'

export async function listenAddress(wanted: Ip): Promise<Ip> {
  if (wanted !== '::') return wanted
  const server = net.createServer()
  const usable = await new Promise<boolean>(resolve => {
    server.once('error', () => resolve(false))
    server.listen({ host: wanted, port: 0 }, () => resolve(true))
  })
  if (!usable) return ip('0.0.0.0')
  await new Promise(resolve => server.close(resolve))
  return wanted
}
