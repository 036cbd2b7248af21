/** The exchange as it was, but for some of its parts. */
import type { Exchange } from './exchange.ts'

export function derivedExchange(exchange: Exchange, parts: Partial<Exchange>): Exchange {
  return {
    head: exchange.head,
    body: exchange.body,
    onGone: listener => exchange.onGone(listener),
    inform: (status, headers) => exchange.inform(status, headers),
    respond: (head, onDrain) => exchange.respond(head, onDrain),
    switchProtocols: headers => exchange.switchProtocols(headers),
    ...parts
  }
}
