// What the pages make of an error of the API's client.

// why says why a call failed, for people. It takes any error.
export function why({ status, detail, message }) {
  const said = detail ?? message;
  return status === 403 ? `You may not do this: ${said}` : said;
}

// never says that the request cannot be taken, now or later, so nothing was done.
export const never = (error) => error.nothingDone && !error.retryable && error.status !== 401;

// refused says that nothing was done, and that somebody has to do something before it can be. After the other answers of
// which that is true, 408 and 429, a page tries again by itself.
export const refused = (error) => error.nothingDone && ![408, 429].includes(error.status);

// lost says of an error about a receipt that nobody will ever be able to answer it. No other error says so, whatever its
// status: it may be that of something in between, and over soon.
export const lost = (error) => ["receipt-expired", "invalid-receipt"].includes(error.kind);
