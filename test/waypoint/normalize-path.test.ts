/** Paths that mean the same get one form; those that readers take differently get none. */
import t from 'tap'
import { normalizePath, type PathNormalization } from '../../waypoint/normalize-path.ts'

type Row = readonly [target: string, base: string | undefined, merged?: string, decoded?: string]

/** Without a third and fourth column all forms are as BASE. */
const rows: readonly Row[] = [
  ['/', '/'],
  ['/a/b?c=%2e%2E/../d', '/a/b?c=%2e%2E/../d'],
  ['/a/./b', '/a/b'],
  ['/a/../b', '/b'],
  ['/a/b/..', '/a/'],
  ['/a/b/.', '/a/b/'],
  ['/../../a', '/a'],
  ['/..', '/'],
  ['/a/..b/.c/d.', '/a/..b/.c/d.'],
  ['/%61%2D%5f%7E', '/a-_~'],
  ['/a/%2e%2e/b', '/b'],
  ['/a/%2E/b', '/a/b'],
  ['/a\\b', '/a/b'],
  ['/a\\..\\b', '/b'],
  ['/a%20b%3Fc', '/a%20b%3Fc'],
  ['/%252e%252e/a', '/%252e%252e/a'],
  ['//a', '//a', '/a'],
  ['/a//b///c', '/a//b///c', '/a/b/c'],
  ['/a//../b', '/a/b'],
  ['/a%2Fb', '/a%2Fb', '/a%2Fb', '/a/b'],
  ['/a%5cb', '/a%5cb', '/a%5cb', '/a/b'],
  ['/a%2F..%2fb', '/a%2F..%2fb', '/a%2F..%2fb', '/b'],
  ['/a/%2e%2e%2fb', '/a/..%2fb', '/a/..%2fb', '/b'],
  ['/a%2F%2Fb', '/a%2F%2Fb', '/a%2F%2Fb', '/a/b'],
  ['/%', undefined],
  ['/%2', undefined],
  ['/%zz', undefined],
  ['/%2%65', undefined],
  ['/a%00b', undefined],
  ['/a?b=%', '/a?b=%']
]

for (const [target, base, merged = base, decoded = merged] of rows) {
  t.test(target, async t => {
    const forms: readonly (readonly [PathNormalization, string | undefined])[] = [
      ['NONE', target],
      ['BASE', base],
      ['MERGE_SLASHES', merged],
      ['DECODE_AND_MERGE_SLASHES', decoded]
    ]
    for (const [how, expected] of forms) {
      t.equal(normalizePath(target, how), expected, how)
      if (expected !== undefined) t.equal(normalizePath(expected, how), expected, `${how}, again`)
    }
  })
}
