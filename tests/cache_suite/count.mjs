// Counts the results of http-cache-tests by kind, as its own pages do: node count.mjs <package folder> <results file>
import fs from 'fs'
import path from 'path'
import { pathToFileURL } from 'url'

const [folder, file] = process.argv.slice(2)
const load = async name => import(pathToFileURL(path.join(folder, name)))
const suites = [...(await load('tests/index.mjs')).default]
const display = await load('lib/display.mjs')
const results = JSON.parse(fs.readFileSync(file, 'utf8'))
const counts = {}
const failed = []
for (const suite of suites) {
  for (const test of suite.tests) {
    if (test.browser_only) continue
    const kind = test.kind || 'required'
    counts[kind] = counts[kind] || { passed: 0, all: 0 }
    counts[kind].all += 1
    // A test that passes counts only if those it depends on passed, too: the page shows the others in grey.
    const verdict = display.determineTestResult(suites, test.id, results)
    if (results[test.id] === true && verdict[2] !== '⚪️') counts[kind].passed += 1
    if (results[test.id] !== true) failed.push([kind, test.id, String(results[test.id])])
  }
}
console.log(JSON.stringify({ counts, failed }))
