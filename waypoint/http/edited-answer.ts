/** The exchange as it was, but for headers of its answer, whoever answers. */
import { derivedExchange } from './derived-exchange.ts'
import type { Exchange } from './exchange.ts'
import type { HeaderList } from './header-list.ts'

/** `edit` changes the headers in place. */
export function withEditedAnswer(exchange: Exchange, edit: (headers: HeaderList) => void): Exchange {
  return derivedExchange(exchange, {
    respond: (head, onDrain) => {
      edit(head.headers)
      return exchange.respond(head, onDrain)
    },
    switchProtocols: headers => {
      edit(headers)
      return exchange.switchProtocols(headers)
    }
  })
}
