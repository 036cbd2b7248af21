import t from 'tap'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { errorTable, MeshError, messageOf } from '../../../shared/runtime/errors.ts'

const root = path.resolve(import.meta.dirname, '../../..')

t.test('a fault carries its status and flag', async t => {
  const error = new MeshError('POLICY_REJECTED', 'no')
  t.equal(error.httpStatus, 401)
  t.equal(error.responseFlag, 'DENY')
})

t.test('every code of the table is raised somewhere', async t => {
  const sources = globSync('{shared,ztunnel,waypoint}/**/*.ts', { cwd: root })
    .filter(file => file !== 'shared/runtime/errors.ts')
    .map(file => readFileSync(path.join(root, file), 'utf8'))
    .join('\n')
  const unused = Object.keys(errorTable).filter(code => !sources.includes(`'${code}'`))
  t.strictSame(unused, [])
})

t.test('the text of a fault has its causes', async t => {
  t.equal(messageOf(new Error('a', { cause: new Error('b') })), 'a: b')
  t.equal(messageOf(new Error('a: b', { cause: new Error('b') })), 'a: b')
  t.equal(
    messageOf(new Error('cannot reach a: refused (is it running?)', { cause: new Error('refused') })),
    'cannot reach a: refused (is it running?)'
  )
  t.equal(messageOf('plain'), 'plain')
})
