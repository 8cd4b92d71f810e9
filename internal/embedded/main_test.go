package embedded

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// helperEnv makes a second process of this test binary a parent that is there to be killed.
const helperEnv = "EMBEDDED_TEST_PARENT"

func TestMain(m *testing.M) {
	Main()
	if os.Getenv(helperEnv) != "" {
		parentToBeKilled()
	}
	goleak.VerifyTestMain(m)
}

// parentToBeKilled runs a temporary PostgreSQL, says where, and waits.
func parentToBeKilled() {
	p, err := StartPostgres(context.Background(), PostgresConfig{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.URL())
	fmt.Println(p.place.spec.Home)
	select {}
}
