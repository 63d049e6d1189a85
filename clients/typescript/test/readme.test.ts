import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import { startDeployment } from "./deployment.js";

const examples = readdirSync("test/examples").filter((name) => name.endsWith(".ts"));

test("the README has examples", () => assert.ok(examples.length >= 5));

for (const name of examples) {
  test(`${name} prints what the README says`, async (t) => {
    process.env.EXAMPLE_URL = (await startDeployment()).url;
    const printed: string[] = [];
    t.mock.method(console, "log", (...words: unknown[]) => printed.push(`${words.join(" ")}\n`));
    await import(`./examples/${name.replace(".ts", ".js")}`);
    assert.equal(printed.join(""), readFileSync(`test/examples/${name.replace(".ts", ".txt")}`, "utf8"));
  });
}
