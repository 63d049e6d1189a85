// Makes dist/drainmark.js, the whole client as one module, of src. Its first line names the sources by their hash, so that
// a test in Go can say, without Node, whether it was made of the sources that are there.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { build } from "esbuild";

const hash = createHash("sha256");
for (const name of readdirSync("src").sort()) hash.update(`${name}\n`).update(readFileSync(`src/${name}`));

await build({
  entryPoints: ["src/index.ts"],
  outfile: "dist/drainmark.js",
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  logLevel: "warning",
  banner: { js: `// Made of clients/typescript/src (${hash.digest("hex")}) by its build.js. Do not edit.` },
});
