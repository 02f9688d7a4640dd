// Opens a page behind proxy-service in Chromium, with a hub user's token as a header of each
// request, and prints what was seen as JSON.
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { CERTIFICATE, CHROMIUM, MODULES, OTHER_PAGE, PAGE, TOKEN } = process.env;
const { chromium } = await import(pathToFileURL(`${MODULES}/node_modules/playwright-core/index.mjs`).href);

// Chromium takes no CA by file, but a server's key.
const key = new X509Certificate(readFileSync(CERTIFICATE)).publicKey.export({ type: 'spki', format: 'der' });
const pin = createHash('sha256').update(key).digest('base64');
const LIMIT = 20_000;
const profile = mkdtempSync(join(tmpdir(), 'cluster-proxy-chromium-'));
try {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    args: [
      `--ignore-certificate-errors-spki-list=${pin}`, '--no-sandbox', '--disable-gpu', '--disable-quic',
      '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--no-proxy-server',
    ],
    extraHTTPHeaders: { authorization: `Bearer ${TOKEN}` },
    timeout: LIMIT,
  });
  const page = context.pages()[0] ?? await context.newPage();
  const complaints = [];
  page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
  page.on('pageerror', (error) => complaints.push(error.message));
  const requests = [];
  page.on('response', (response) => requests.push([response.url(), response.status()]));
  await page.goto(PAGE, { timeout: LIMIT });
  let finished = true;
  try {
    await page.getByText('done').waitFor({ timeout: LIMIT });
  } catch {
    finished = false;
  }
  const seen = await page.evaluate(() => window.seen ?? null);
  const color = await page.evaluate(() => getComputedStyle(document.querySelector('h1')).color);
  const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  const cookies = await context.cookies();
  const complained = [...complaints];
  // Another Service of the same origin.
  await page.goto(OTHER_PAGE, { timeout: LIMIT });
  const other = JSON.parse(await page.evaluate(() => document.body.innerText));
  await context.close();
  console.log(JSON.stringify({ finished, seen, color, protocol, cookies, other, complaints: complained, requests }));
} finally {
  rmSync(profile, { recursive: true, force: true });
}
