import t from 'tap'
import { readIfThere, textIfThere } from '../../../shared/runtime/read-if-there.ts'

t.test('a missing file is no fault, every other one is', async t => {
  const folder = t.testdir({ file: 'naïve\n', empty: '' })
  t.same(readIfThere(`${folder}/file`), Buffer.from('naïve\n'))
  t.equal(textIfThere(`${folder}/file`), 'naïve\n')
  t.equal(textIfThere(`${folder}/empty`), '', 'nothing in it is not the same as missing')
  t.equal(readIfThere(`${folder}/missing`), undefined)
  t.equal(textIfThere(`${folder}/missing/file`), undefined)
  t.throws(() => textIfThere(folder), { code: 'EISDIR' })
  t.throws(() => readIfThere(`${folder}/file/below`), { code: 'ENOTDIR' })
})
