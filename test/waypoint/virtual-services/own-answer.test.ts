/** Where redirects of VirtualServices lead, and what else rules answer themselves: VS-12. */
import t from 'tap'
import { ownAnswerTo } from '../../../waypoint/virtual-services/own-answer.ts'
import { rule } from './support.ts'

const none = { port: 80, prefix: '/a', responseHeaders: undefined }

for (const [redirect, asked, expected] of [
  [{}, {}, 'http://shop.test:81/a?b=1'],
  [{ uri: '/new' }, {}, 'http://shop.test:81/new?b=1'],
  [{ uri: '/new?c' }, {}, 'http://shop.test:81/new?c'],
  [{ prefixRewrite: '/new' }, {}, 'http://shop.test:81/new?b=1'],
  [{ prefixRewrite: '/new' }, { target: '/a/c?b=1' }, 'http://shop.test:81/new/c?b=1'],
  [{ prefixRewrite: '/' }, { target: '/ab' }, 'http://shop.test:81/b'],
  [{ prefixRewrite: 'new' }, { target: '/a' }, 'http://shop.test:81/new'],
  [
    { prefixRewrite: '/new', authority: 'a.test', scheme: 'https' },
    { target: '/a/c' },
    'https://a.test/new/c'
  ],
  [{ authority: 'a.test' }, {}, 'http://a.test/a?b=1'],
  [{ authority: 'a.test:82' }, {}, 'http://a.test:82/a?b=1'],
  [{ scheme: 'https' }, {}, 'https://shop.test:81/a?b=1'],
  [{ scheme: 'https' }, { authority: 'shop.test:80' }, 'https://shop.test/a?b=1'],
  [{ scheme: 'http' }, { authority: 'shop.test:443', scheme: 'https' }, 'http://shop.test/a?b=1'],
  [{ scheme: 'https' }, { authority: 'shop.test:443', scheme: 'https' }, 'https://shop.test:443/a?b=1'],
  [{ port: 8443 }, {}, 'http://shop.test:8443/a?b=1'],
  [{ port: 8443, authority: 'a.test:1' }, {}, 'http://a.test:8443/a?b=1'],
  [{ port: 443, scheme: 'https' }, {}, 'https://shop.test/a?b=1'],
  [{ port: 443 }, { scheme: 'https' }, 'https://shop.test/a?b=1'],
  [{ derivePort: 'FROM_REQUEST_PORT' }, {}, 'http://shop.test/a?b=1'],
  [{ derivePort: 'FROM_REQUEST_PORT', scheme: 'https' }, {}, 'https://shop.test:80/a?b=1'],
  [{ derivePort: 'FROM_PROTOCOL_DEFAULT' }, {}, 'http://shop.test:81/a?b=1']
] as const) {
  t.test(`${JSON.stringify(redirect)} of ${JSON.stringify(asked)}`, async t => {
    const answer = rule({ redirect }).filters.ownAnswer
    const request = { authority: 'shop.test:81', target: '/a?b=1', ...asked }
    const reply = answer && ownAnswerTo(answer, request, none)
    t.equal(reply?.headers?.get('location'), expected)
    t.match(reply, { status: 301, body: '', flag: '-', details: 'direct_response' })
  })
}

t.test('headers of answers are changed as those of pods are', async t => {
  const { filters } = rule({
    directResponse: { status: 503, body: { string: '{}' } },
    headers: { response: { set: { 'content-type': 'application/json' } } }
  })
  const { ownAnswer, responseHeaders } = filters
  const reply =
    ownAnswer &&
    ownAnswerTo(ownAnswer, { authority: 'a', target: '/' }, { port: 80, prefix: undefined, responseHeaders })
  t.match(reply, { status: 503, body: '{}' })
  t.equal(reply?.headers?.get('content-type'), 'application/json')
})
