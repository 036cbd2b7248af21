/** The exchange as it was, but for headers of its answer, whoever answers. */
import type { Exchange } from './exchange.ts'
import type { HeaderList } from './header-list.ts'

/** `edit` changes the headers in place. */
export function withEditedAnswer(exchange: Exchange, edit: (headers: HeaderList) => void): Exchange {
  return {
    head: exchange.head,
    body: exchange.body,
    onGone: listener => exchange.onGone(listener),
    inform: (status, headers) => exchange.inform(status, headers),
    respond: (head, onDrain) => {
      edit(head.headers)
      return exchange.respond(head, onDrain)
    },
    switchProtocols: headers => {
      edit(headers)
      return exchange.switchProtocols(headers)
    }
  }
}
