// Makes a test of each example of README.md: a block of TypeScript, and behind it, if there is one, a block of text, which
// is what it prints. They are then compiled and run with the other tests, on a deployment of their own.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const blocks = [...readFileSync("README.md", "utf8").matchAll(/^```ts\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/gms)];
mkdirSync("test/examples", { recursive: true });
for (const [i, [, code, printed = ""]] of blocks.entries()) {
  const own = code.replaceAll('"http://localhost:8080"', "process.env.EXAMPLE_URL!");
  writeFileSync(`test/examples/example${i + 1}.ts`, `// biome-ignore-all lint: it is written to be read\n${own}\nexport {};\n`);
  writeFileSync(`test/examples/example${i + 1}.txt`, printed);
}
console.log(`${blocks.length} examples`);
